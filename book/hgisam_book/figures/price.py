"""Figure of the price of labels: Dice against the minutes of annotation."""

import pandas as pd
import plotly.graph_objects as go

from hgisam_book.figures.charts import COLOURS, SYMBOLS
from hgisam_book.figures.page import METHOD_NAMES, apply_style

LABELS = ("nothing", "exam", "slice", "box", "ball", "mask", "slice and mask")
GREY = "rgba(128,128,128,0.9)"
FREE_AT = 0.3  # minutes where a method without any label stands: a logarithmic axis has no zero
TICKS = {FREE_AT: "free", 1: "1 min", 10: "10 min", 60: "1 h", 600: "10 h", 6000: "100 h"}


def ladder_name(method: str) -> str:
    """Display name of a method of the ladder, e.g. "U-Net, 3 masks"."""
    kind, _, scans = method.rpartition("_")
    count = "all masks" if scans == "all" else "1 mask" if scans == "1" else f"{scans} masks"
    return {"unet": f"U-Net, {count}", "mixed": f"refined and U-Net, {count}"}.get(kind) or METHOD_NAMES[method]


def price_ladder(ladder: pd.DataFrame) -> go.Figure:
    """Dice of each method against the minutes of annotation, on a logarithmic axis.

    Horizontal bars reach from half to twice the price, vertical ones are 95 % intervals; the line is the frontier.

    Args:
        ladder: From `hgisam_book.studies.prices.price_ladder`.
    """
    figure = go.Figure()
    ladder = ladder.assign(at=ladder["minutes"].clip(lower=FREE_AT))
    best = ladder[ladder["frontier"]]
    line = {"color": GREY, "dash": "dot", "shape": "hv"}
    figure.add_trace(go.Scatter(x=best["at"], y=best["mean"], mode="lines", line=line, name="frontier"))
    shown = [label for label in LABELS if (ladder["label"] == label).any()]
    for number, label in enumerate(shown):
        part, colour = ladder[ladder["label"] == label], [*COLOURS, GREY][number]
        bars = {"type": "data", "thickness": 1, "width": 0}
        figure.add_trace(
            go.Scatter(
                x=part["at"],
                customdata=part["minutes"],
                y=part["mean"].round(4),
                error_x={**bars, "array": part["minutes"], "arrayminus": part["minutes"] / 2},
                error_y={**bars, "array": part["high"] - part["mean"], "arrayminus": part["mean"] - part["low"]},
                mode="markers",
                marker={"size": 10, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]},
                name=label,
                text=part["method"].map(ladder_name),
                hovertemplate="%{text}: Dice %{y:.2f}, %{customdata:.0f} min<extra></extra>",
            )
        )
    figure.update_xaxes(title="annotation time", type="log", tickvals=list(TICKS), ticktext=list(TICKS.values()))
    figure.update_yaxes(title="Dice per slice", rangemode="tozero")
    points = zip(best["method"], best["mean"], best["minutes"], strict=True)
    read = ", ".join(f"{ladder_name(method)} {dice:.2f} for {minutes:.0f} minutes" for method, dice, minutes in points)
    return apply_style(figure, f"Dice per slice against minutes of annotation. On the frontier: {read}.", "520px")

"""Figure of the price of labels: Dice, false positives and AUROC against the minutes of annotation."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hgisam_book.figures.charts import COLOURS, SYMBOLS
from hgisam_book.figures.page import METHOD_NAMES, apply_style, menu

LABELS = ("nothing", "exam", "slice", "box", "ball", "mask", "slice and mask")
AXES = {"dice": "Dice per slice", "false_positive_ml": "false positives, ml per scan", "auroc": "AUROC of slices"}
GREY = "rgba(128,128,128,0.9)"
FREE_AT = 0.3  # minutes where a method without any label stands: a logarithmic axis has no zero
TICKS = {FREE_AT: "free", 1: "1 min", 10: "10 min", 60: "1 h", 600: "10 h", 6000: "100 h"}


def ladder_name(method: str) -> str:
    """Display name of a method of the ladder, e.g. "U-Net, 3 masks"."""
    kind, _, scans = method.rpartition("_")
    count = "all masks" if scans == "all" else "1 mask" if scans == "1" else f"{scans} masks"
    return {"unet": f"U-Net, {count}", "mixed": f"refined and U-Net, {count}"}.get(kind) or METHOD_NAMES[method]


def price_ladder(ladder: pd.DataFrame, measures: pd.DataFrame) -> go.Figure:
    """Each measure of each method against the minutes of annotation, on a logarithmic axis; a menu has the measures.

    Horizontal bars reach from half to twice the price, vertical ones are 95 % intervals; the line is the frontier.

    Args:
        ladder: From `hgisam_book.studies.prices.price_ladder`.
        measures: From `hgisam_book.studies.beyond_dice.ladder_measures`, for the same methods.
    """
    ladder = ladder.assign(at=ladder["minutes"].clip(lower=FREE_AT))
    shown = [label for label in LABELS if (ladder["label"] == label).any()]
    names = list(dict.fromkeys(measures["measure"]))
    values = {name: measures[measures["measure"] == name].set_index("method") for name in names}
    figure = go.Figure()
    line = {"color": GREY, "dash": "dot", "shape": "hv"}
    figure.add_trace(go.Scatter(mode="lines", line=line, name="frontier"))
    for number, label in enumerate(shown):
        part, colour = ladder[ladder["label"] == label], [*COLOURS, GREY][number]
        bars = {"type": "data", "thickness": 1, "width": 0}
        figure.add_trace(
            go.Scatter(
                x=part["at"],
                customdata=part["minutes"],
                error_x={**bars, "array": part["minutes"], "arrayminus": part["minutes"] / 2},
                error_y=bars,
                mode="markers",
                marker={"size": 10, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]},
                name=label,
                text=part["method"].map(ladder_name),
                hovertemplate="%{text}: %{y:.2f}, %{customdata:.0f} min<extra></extra>",
            )
        )
    steps = [("update", [*_view(ladder, shown, values[name], name)]) for name in names]
    changes, titles = steps[names.index("dice")][1]
    figure.plotly_update(restyle_data=changes, relayout_data=titles)
    figure.update_xaxes(title="annotation time", type="log", tickvals=list(TICKS), ticktext=list(TICKS.values()))
    figure.update_yaxes(rangemode="tozero")
    best = ladder[ladder["frontier"]]
    points = zip(best["method"], best["mean"], best["minutes"], strict=True)
    read = ", ".join(f"{ladder_name(method)} {dice:.2f} for {minutes:.0f} minutes" for method, dice, minutes in points)
    alt = f"Dice per slice against minutes of annotation. On the frontier: {read}."
    return apply_style(figure, alt, "560px", updatemenus=[menu([_axis(name) for name in names], steps)])


def _axis(measure: str) -> str:
    return AXES.get(measure, f"Dice, {measure} alone")


def _view(ladder: pd.DataFrame, shown: list[str], values: pd.DataFrame, measure: str) -> tuple[dict[str, Any], ...]:
    """Changes of the traces and of the layout that show one measure."""
    best = ladder[ladder["method"].map(values["frontier"]).fillna(value=False).astype(bool)]
    traces = [(best["at"], best["method"].map(values["mean"]), pd.Series(dtype=float), pd.Series(dtype=float))]
    for label in shown:
        part = ladder[ladder["label"] == label]
        mean, low, high = (part["method"].map(values[key]) for key in ("mean", "low", "high"))
        traces.append((part["at"], mean, high - mean, mean - low))
    xs, ys, above, below = ([_numbers(column) for column in columns] for columns in zip(*traces, strict=True))
    changes = {"x": xs, "y": ys, "error_y.array": above, "error_y.arrayminus": below}
    return changes, {"yaxis.title.text": _axis(measure)}


def _numbers(column: pd.Series) -> list[float | None]:
    return [None if np.isnan(number) else round(float(number), 4) for number in column]

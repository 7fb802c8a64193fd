"""Figures of the sanity checks: maps of a network that forgets, and scores of slices that lose their pixels."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS, DASHES, SYMBOLS
from hgisam_book.figures.page import METHOD_COLOURS, METHOD_NAMES, finish

PANELS = {"spearman": "rank correlation", "ssim": "structural similarity", "dice": "Dice"}
GREY = "rgba(128,128,128,0.9)"


def randomisation_steps(checks: pd.DataFrame) -> go.Figure:
    """Likeness of maps to those of the trained network, and Dice, as more and more of it is randomised.

    Args:
        checks: Rows of the test "randomisation": method, at, metric, mean, low, high; steps in their order.
    """
    figure = make_subplots(rows=len(PANELS), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for name, mine, style in _groups(checks):
        for row, metric in enumerate(PANELS, start=1):
            points = mine[mine["metric"] == metric]
            ends = {"array": points["high"] - points["mean"], "arrayminus": points["mean"] - points["low"]}
            bars = {"error_y": {"type": "data", "thickness": 1.5, **ends}}
            _add_line(figure, name, points["at"], points["mean"], row, hover=", %{x}: %{y:.2f}", **style, **bars)
    for row, title in enumerate(PANELS.values(), start=1):
        figure.update_yaxes(title=title.replace(" ", "<br>", 1), rangemode="tozero", row=row, col=1)
    last = checks["at"].iloc[-1]
    left = checks[(checks["at"] == last)].pivot(index="method", columns="metric", values="mean")
    said = "; ".join(
        f"{METHOD_NAMES.get(str(name), str(name))} {r['spearman']:.2f} and {r['dice']:.2f}"
        for name, r in left.iterrows()
    )
    alt = (
        f"Three panels over {checks['at'].nunique()} steps from the trained network on: rank correlation and "
        f"structural similarity of each method's maps with the trained ones, and Dice. At the step “{last}”, "
        f"correlation and Dice: {said}."
    )
    return finish(figure, alt, "640px")


def removal_curves(checks: pd.DataFrame) -> go.Figure:
    """Score against the share of the brain that was deleted, and inserted, in the order of each map.

    Args:
        checks: Rows of the tests "deletion" and "insertion": test, method, at, metric, mean.
    """
    tests = ("deletion", "insertion")
    figure = make_subplots(rows=len(tests), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    said = []
    for name, mine, style in _groups(checks):
        label = METHOD_NAMES.get(name, name)
        areas = mine[mine["metric"] == "auc"].set_index("test")["mean"]
        said.append(f"{label} {areas['deletion']:.2f} and {areas['insertion']:.2f}")
        for row, test in enumerate(tests, start=1):
            points = mine[(mine["test"] == test) & (mine["metric"] == "score")]
            at = points["at"].astype(float)
            _add_line(figure, name, at, points["mean"], row, hover=": %{y:.2f} at %{x:.1%}", **style)
    for row, test in enumerate(tests, start=1):
        figure.update_yaxes(title=f"score,<br>{test}", range=[-0.02, 1.02], row=row, col=1)
    figure.update_xaxes(title="share of the brain", tickformat=".0%", row=len(tests), col=1)
    alt = (
        "Probability of a bleed against the share of the brain's pixels that were deleted (above) or inserted (below), "
        f"highest first. Areas under both curves: {'; '.join(said)}."
    )
    return finish(figure, alt, "600px")


def _add_line(figure: go.Figure, name: str, x: pd.Series, y: pd.Series, row: int, *, hover: str, **look: Any) -> None:
    """A method's line in one of the panels; the legend has it once, and hides or shows it in all."""
    label = METHOD_NAMES.get(name, name)
    legend = {"name": label, "legendgroup": name, "showlegend": row == 1}
    hovertemplate = f"{label}{hover}<extra></extra>"
    line = go.Scatter(x=x, y=y.round(4), mode="lines+markers", hovertemplate=hovertemplate, **legend, **look)
    figure.add_trace(line, row=row, col=1)


def _groups(checks: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, dict[str, object]]]]:
    """Name, rows and look of each method; references, which are no methods, are grey."""
    for number, (name, mine) in enumerate(checks.groupby("method", sort=False)):
        method = str(name)
        other = COLOURS[number % len(COLOURS)] if method in METHOD_NAMES else GREY
        colour = METHOD_COLOURS.get(method, other)
        line = {"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2}
        yield method, mine, {"line": line, "marker": {"size": 6, "symbol": SYMBOLS[number % len(SYMBOLS)]}}

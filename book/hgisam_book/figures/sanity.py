"""Figures of the sanity checks: randomization of weights, deletion and insertion of pixels, criteria against Dice."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS, DASHES, SYMBOLS
from hgisam_book.figures.page import METHOD_COLOURS, METHOD_NAMES, apply_style

PANELS = {"spearman": "rank correlation", "ssim": "structural similarity", "dice": "Dice"}
GREY = "rgba(128,128,128,0.9)"


def randomization_steps(checks: pd.DataFrame) -> go.Figure:
    """Similarity of maps to those of the trained network, and Dice, along a cascading randomization of its weights.

    Args:
        checks: Rows of the test "randomization": method, at, metric, mean, low, high; steps in order.
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
    by_method = "; ".join(
        f"{METHOD_NAMES.get(str(name), str(name))} {r['spearman']:.2f} and {r['dice']:.2f}"
        for name, r in left.iterrows()
    )
    alt = (
        f"Three panels over {checks['at'].nunique()} steps of randomization, from the trained network on: rank "
        f"correlation and structural similarity of each method's maps with those of the trained network, and Dice. At "
        f"the step “{last}”, "
        f"correlation and Dice: {by_method}."
    )
    return apply_style(figure, alt, "640px")


def deletion_insertion_curves(checks: pd.DataFrame) -> go.Figure:
    """Deletion and insertion curves: score against the share of brain pixels, highest map values first.

    Args:
        checks: Rows of the tests "deletion" and "insertion": test, method, at, metric, mean.
    """
    tests = ("deletion", "insertion")
    figure = make_subplots(rows=len(tests), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    areas_by_method = []
    for name, mine, style in _groups(checks):
        label = METHOD_NAMES.get(name, name)
        areas = mine[mine["metric"] == "auc"].set_index("test")["mean"]
        areas_by_method.append(f"{label} {areas['deletion']:.2f} and {areas['insertion']:.2f}")
        for row, test in enumerate(tests, start=1):
            points = mine[(mine["test"] == test) & (mine["metric"] == "score")]
            at = points["at"].astype(float)
            _add_line(figure, name, at, points["mean"], row, hover=": %{y:.2f} at %{x:.1%}", **style)
    for row, test in enumerate(tests, start=1):
        figure.update_yaxes(title=f"score,<br>{test}", range=[-0.02, 1.02], row=row, col=1)
    figure.update_xaxes(title="share of brain pixels", tickformat=".0%", row=len(tests), col=1)
    alt = (
        "Predicted probability of bleeding against the share of brain pixels deleted (top) or inserted (bottom), in "
        "descending order of the map. Areas under the deletion and the insertion curve: "
        f"{'; '.join(areas_by_method)}."
    )
    return apply_style(figure, alt, "600px")


def explanation_quality(table: pd.DataFrame, agreement: pd.DataFrame) -> go.Figure:
    """Dice against each criterion of an explanation, one point per method.

    Args:
        table: method, metric, mean; "dice" is one of the metrics.
        agreement: One row per metric, a panel each: spearman, the rank correlation with Dice.
    """
    means = table.pivot(index="method", columns="metric", values="mean").reindex(table["method"].unique())
    columns = 2
    titles = [f"{metric}<br>ρ = {row['spearman']:.2f}" for metric, row in agreement.iterrows()]
    rows = -(-len(titles) // columns)
    figure = make_subplots(rows=rows, cols=columns, shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.15)
    for number, name in enumerate(means.index):
        label = METHOD_NAMES.get(name, name)
        colour = METHOD_COLOURS.get(name, COLOURS[number % len(COLOURS)])
        marker = {"size": 8, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        for panel, metric in enumerate(agreement.index):
            figure.add_trace(
                go.Scatter(
                    x=[round(float(means.loc[name, metric]), 4)], y=[round(float(means.loc[name, "dice"]), 4)],
                    mode="markers", marker=marker, name=label, legendgroup=name, showlegend=panel == 0,
                    hovertemplate=f"{label}: %{{x:.2f}}, Dice %{{y:.2f}}<extra></extra>",
                ),
                row=panel // columns + 1, col=panel % columns + 1,
            )  # fmt: skip
    figure.update_annotations(font_size=13)  # the longest title fits above its panel on a phone
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title="Dice", col=1)
    listed = "; ".join(f"{metric} {row['spearman']:.2f}" for metric, row in agreement.iterrows())
    alt = (
        f"{len(titles)} scatter plots of {len(means)} methods: Dice against each criterion of an explanation. Rank "
        f"correlation with Dice, positive where the better explanation segments better: {listed}."
    )
    return apply_style(figure, alt, "1150px", margin={"l": 8, "r": 8, "t": 64, "b": 8})  # titles of two lines


def _add_line(figure: go.Figure, name: str, x: pd.Series, y: pd.Series, row: int, *, hover: str, **look: Any) -> None:
    """Add the line of a method to one panel; one legend entry controls its lines in all panels."""
    label = METHOD_NAMES.get(name, name)
    legend = {"name": label, "legendgroup": name, "showlegend": row == 1}
    hovertemplate = f"{label}{hover}<extra></extra>"
    line = go.Scatter(x=x, y=y.round(4), mode="lines+markers", hovertemplate=hovertemplate, **legend, **look)
    figure.add_trace(line, row=row, col=1)


def _groups(checks: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, dict[str, object]]]]:
    """Name, rows and line style of each method; references such as a random order are grey."""
    for number, (name, mine) in enumerate(checks.groupby("method", sort=False)):
        method = str(name)
        other = COLOURS[number % len(COLOURS)] if method in METHOD_NAMES else GREY
        colour = METHOD_COLOURS.get(method, other)
        line = {"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2}
        yield method, mine, {"line": line, "marker": {"size": 6, "symbol": SYMBOLS[number % len(SYMBOLS)]}}

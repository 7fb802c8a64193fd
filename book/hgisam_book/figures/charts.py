"""General charts: bars, histograms, distributions, confidence intervals, scatter plots, threshold curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.page import (
    BLUE,
    GREEN,
    HU_METHODS,
    METHOD_COLOURS,
    METHOD_NAMES,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
    apply_style,
)

Floats = npt.NDArray[np.floating]
COLOURS = (BLUE, ORANGE, GREEN, PINK, VERMILION, SKY)
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "x")


def _colour(name: str, number: int) -> str:
    """Colour of a method, also of "name, gated"; of any other group the next colour of the palette."""
    return METHOD_COLOURS.get(name.split(",")[0], COLOURS[number % len(COLOURS)])


def _label(name: str) -> str:
    """Display name of a method, also of "name, gated"; any other name unchanged."""
    method, comma, rest = name.partition(",")
    return METHOD_NAMES.get(method, method) + comma + rest


def counts(table: pd.DataFrame, alt: str, *, unit: str) -> go.Figure:
    """Horizontal bar chart, one colour per column.

    Args:
        table: Index: categories; one column per group.
        alt: Alternative text.
        unit: Unit of the values, title of the axis.
    """
    figure = go.Figure()
    for (name, column), colour, pattern in zip(table.items(), COLOURS, ("", "/", ".", "x"), strict=False):
        marker = {"color": colour, "pattern": {"shape": pattern}}
        hover = f"%{{y}}: %{{x}} {unit}<extra>{name}</extra>"
        bar = go.Bar(y=table.index, x=column, orientation="h", name=str(name), marker=marker, hovertemplate=hover)
        figure.add_trace(bar)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=unit)
    return apply_style(figure, alt, f"{170 + len(table) * (18 + 14 * len(table.columns))}px")


def hu_histograms(values: Mapping[str, npt.NDArray[np.number]], *, low: int, high: int, title: str) -> go.Figure:
    """Histograms of HU as probability densities, one line per group.

    Args:
        values: Name → HU of the group's pixels.
        low: Lower end of the axis in HU.
        high: Upper end of the axis in HU.
        title: Description of the groups, for the alternative text.
    """
    edges = np.arange(low, high + 2, 2)
    figure = go.Figure()
    medians = []
    for (name, hu), colour, dash in zip(values.items(), COLOURS, DASHES * 2, strict=False):
        density = np.histogram(hu, bins=edges)[0] / max(2 * len(hu), 1)
        line = {"color": colour, "dash": dash, "width": 2.5, "shape": "hvh"}
        hover = f"%{{x}} HU<extra>{name}</extra>"
        trace = go.Scatter(
            x=edges[:-1] + 1, y=density.round(5), mode="lines", line=line, name=name, hovertemplate=hover
        )
        figure.add_trace(trace)
        medians.append(f"{name} {np.median(hu):.0f} HU" if len(hu) else f"{name}: none")
    figure.update_xaxes(title="HU", range=[low, high])
    figure.update_yaxes(title="density", showticklabels=False, rangemode="tozero")
    return apply_style(figure, f"Histograms of HU, {title}. Medians: {'; '.join(medians)}.", "400px")


def distributions(
    table: pd.DataFrame, alt: str, *, value: str, by: str, title: str, limits: tuple[float, float] | None = None,
    band: tuple[float, float] | None = None,
) -> go.Figure:  # fmt: skip
    """Violin plot per group with every value as a point, so that a bimodal distribution stays visible.

    Args:
        table: Columns `value` and `by`.
        alt: Alternative text.
        value: Column of the numbers.
        by: Column of the groups, in the order of their first appearance; method names get their own colour.
        title: Title of the value axis.
        limits: Range of the value axis.
        band: Range of the value to shade, e.g. that of real heads.
    """
    figure = go.Figure()
    if band is not None:
        figure.add_vrect(x0=band[0], x1=band[1], fillcolor=GREEN, opacity=0.15, line_width=0, layer="below")
    for number, (name, group) in enumerate(table.groupby(by, sort=False)):
        colour = _colour(str(name), number)
        points = group[value]
        if len(points) > 300:  # enough for the shape, and keeps the page small
            points = points.sample(300, random_state=0)
        look = {"line_color": colour, "fillcolor": "rgba(128,128,128,0.15)", "marker": {"size": 4, "opacity": 0.6}}
        shape = {
            "points": "all",
            "jitter": 0.6,
            "pointpos": 0,
            "meanline_visible": True,
            "spanmode": "hard",
            "width": 0.9,
        }
        label = _label(str(name))
        violin = go.Violin(
            x=points.round(3), name=label, orientation="h", showlegend=False, hoverinfo="x", **look, **shape
        )
        figure.add_trace(violin)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=title, range=limits)
    return apply_style(figure, alt, f"{130 + 85 * table[by].nunique()}px")


def intervals(table: pd.DataFrame, alt: str, *, title: str, limits: tuple[float, float] | None = None) -> go.Figure:
    """Estimates with confidence intervals: one row per label, one colour per method.

    Args:
        table: Columns label, method, mean, low, high.
        alt: Alternative text.
        title: Title of the value axis.
        limits: Range of the value axis.
    """
    labels, methods = list(dict.fromkeys(table["label"])), list(dict.fromkeys(table["method"]))
    figure = go.Figure()
    for number, method in enumerate(methods):
        mine = table[(table["method"] == method) & table["mean"].notna()]
        offset = (number - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 1)
        y = [labels.index(label) + offset for label in mine["label"]]
        bars = {"array": mine["high"] - mine["mean"], "arrayminus": mine["mean"] - mine["low"], "thickness": 2}
        marker = {"size": 10, "color": _colour(method, number), "symbol": SYMBOLS[number % len(SYMBOLS)]}
        name = METHOD_NAMES.get(method, method)
        hover = f"{name}: %{{x:.3f}}<extra></extra>"
        points = {"x": mine["mean"], "y": y, "error_x": {"type": "data", **bars}}
        figure.add_trace(go.Scatter(**points, mode="markers", marker=marker, name=name, hovertemplate=hover))
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels, "zeroline": False}
    figure.update_yaxes(**ticks, range=[len(labels) - 0.5, -0.5])
    figure.update_xaxes(title=title, range=limits)
    return apply_style(figure, alt, f"{150 + 26 * len(labels) * (1 + len(methods) // 2)}px")


def threshold_curves(chosen: Mapping[str, Mapping[str, Any]], alt: str) -> go.Figure:
    """Validation Dice against the threshold, one curve per method, with the selected operating point.

    Args:
        chosen: Method → grid, dice, threshold, validation_dice, as stored in `thresholds.json`.
        alt: Alternative text.
    """
    in_hu = [name for name in chosen if name in HU_METHODS]
    figure = make_subplots(rows=1 + bool(in_hu), cols=1, vertical_spacing=0.22)
    for number, (name, curve) in enumerate(chosen.items()):
        row = 2 if name in in_hu else 1
        label, colour = METHOD_NAMES.get(name, name), METHOD_COLOURS.get(name, BLUE)
        line = {"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2.5}
        y = np.round(curve["dice"], 4)
        figure.add_trace(go.Scatter(x=curve["grid"], y=y, mode="lines", line=line, name=label), row=row, col=1)
        marker = {"size": 11, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        point = {"x": [curve["threshold"]], "y": [curve["validation_dice"]], "showlegend": False}
        hover = f"{label}: %{{x:.3g}}, Dice %{{y:.3f}}<extra></extra>"
        figure.add_trace(go.Scatter(**point, mode="markers", marker=marker, hovertemplate=hover), row=row, col=1)
    figure.update_yaxes(title="validation Dice", rangemode="tozero")
    figure.update_xaxes(title="threshold of the map", type="log", row=1, col=1)
    if in_hu:
        figure.update_xaxes(title="threshold in HU", row=2, col=1)
    return apply_style(figure, alt, "520px")


def density_threshold(found: Mapping[str, Any]) -> go.Figure:
    """AUROC of the area at or above each density for bleeding against other slices, with the selected threshold.

    Args:
        found: grid_hu, auroc and threshold_hu, as stored in `density.json`.
    """
    grid, auroc, selected = found["grid_hu"], np.round(found["auroc"], 4), found["threshold_hu"]
    best = float(auroc[grid.index(selected)])
    figure = go.Figure()
    line = {"color": BLUE, "width": 2.5}
    figure.add_trace(go.Scatter(x=grid, y=auroc, mode="lines", line=line, name="all thresholds"))
    marker = {"size": 11, "color": VERMILION, "symbol": "diamond"}
    figure.add_trace(go.Scatter(x=[selected], y=[best], mode="markers", marker=marker, name="selected threshold"))
    figure.add_hline(y=0.5, line_dash="dot", line_color="rgba(128,128,128,0.8)", annotation_text="chance")
    figure.update_xaxes(title="threshold in HU")
    figure.update_yaxes(title="AUROC of the dense area")
    alt = (
        f"AUROC of the dense area of a slice against the threshold, {grid[0]:.0f} to {grid[-1]:.0f} HU: "
        f"best {best:.2f} at {selected:.0f} HU, {auroc[0]:.2f} and {auroc[-1]:.2f} at the ends."
    )
    return apply_style(figure, alt, "380px")


def scatter(
    table: pd.DataFrame, alt: str, *, x: str, y: str, by: str, titles: Sequence[str], log_x: bool = False,
    identity: bool = False,
) -> go.Figure:  # fmt: skip
    """Scatter plot of several groups.

    Args:
        table: Columns `x`, `y` and `by`.
        alt: Alternative text.
        x: Column of the x values.
        y: Column of the y values.
        by: Column of the groups; method names get their own colour.
        titles: Titles of the x and the y axis.
        log_x: Use a logarithmic x axis.
        identity: Add the line y = x.
    """
    figure = go.Figure()
    for number, (name, group) in enumerate(table.groupby(by, sort=False)):
        colour = _colour(str(name), number)
        marker = {"size": 6, "opacity": 0.7, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        label = _label(str(name))
        points = {"x": group[x].round(3), "y": group[y].round(3)}
        figure.add_trace(go.Scatter(**points, mode="markers", marker=marker, name=label))
    if identity and len(table):
        top = float(table[[x, y]].to_numpy().max())
        line = {"color": "rgba(128,128,128,0.7)", "dash": "dot"}
        figure.add_trace(go.Scatter(x=[0, top], y=[0, top], mode="lines", line=line, name="identity", hoverinfo="skip"))
    figure.update_xaxes(title=titles[0], type="log" if log_x else None)
    figure.update_yaxes(title=titles[1])
    return apply_style(figure, alt, "440px")

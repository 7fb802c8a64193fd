"""Figures of detection: ROC, scores, calibration, what is confused with what, what is missed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve

from hgisam.data.prepared import SUBTYPES
from hgisam_book.figures.charts import COLOURS, DASHES, intervals
from hgisam_book.figures.page import BLUE, SKY, VERMILION, finish
from hgisam_book.studies.error_analysis import CALIBRATION_GROUPS, calibration_errors


def roc(curves: Mapping[str, tuple[Any, Any]], *, thresholds: Mapping[str, float] | None = None) -> go.Figure:
    """ROC curves, with the point of the chosen threshold.

    Args:
        curves: Name → (labels 0/1 [n], scores [n]).
        thresholds: Name → score at and above which a slice is called bleeding.
    """
    figure = go.Figure()
    areas = []
    for (name, (labels, scores)), colour, dash in zip(curves.items(), COLOURS, DASHES, strict=False):
        labels, scores = np.asarray(labels), np.asarray(scores)
        false_positive, true_positive, _ = roc_curve(labels, scores)
        areas.append(f"{name} {roc_auc_score(labels, scores):.3f}")
        line = {"color": colour, "dash": dash, "width": 3}
        named = {"name": f"{name}, area {roc_auc_score(labels, scores):.3f}"}
        hover = "1 - specificity %{x:.2f}, sensitivity %{y:.2f}<extra></extra>"
        figure.add_trace(go.Scatter(x=false_positive, y=true_positive, line=line, hovertemplate=hover, **named))
        if thresholds and name in thresholds:
            said = scores >= thresholds[name]
            point = {"x": [said[labels == 0].mean()], "y": [said[labels == 1].mean()]}
            marker = {"size": 13, "color": colour, "symbol": "diamond", "line": {"width": 1, "color": "white"}}
            figure.add_trace(go.Scatter(**point, mode="markers", marker=marker, name="chosen threshold"))
    chance = {"color": "rgba(128,128,128,0.7)", "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=chance, name="chance", hoverinfo="skip"))
    figure.update_xaxes(title="1 - specificity", range=[-0.02, 1.02])
    figure.update_yaxes(title="sensitivity", range=[-0.02, 1.02])
    return finish(figure, f"ROC curves; area under each: {', '.join(areas)}.", "460px")


def score_histogram(labels: Any, scores: Any, threshold: float) -> go.Figure:
    """How the scores of bleeding and other slices lie about the threshold.

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        threshold: Score at and above which a slice is called bleeding.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    figure = go.Figure()
    groups = [("no bleeding", scores[labels == 0], SKY, "/"), ("bleeding", scores[labels == 1], VERMILION, "")]
    for name, values, colour, pattern in groups:
        share, edges = np.histogram(values, bins=np.linspace(0, 1, 26))
        bars = {"width": 0.04, "marker": {"color": colour, "opacity": 0.65, "pattern": {"shape": pattern}}}
        hover = "score near %{x:.2f}: %{y:.1%} of its slices<extra></extra>"
        y = share / max(len(values), 1)
        figure.add_trace(go.Bar(x=(edges[:-1] + edges[1:]) / 2, y=y, name=name, hovertemplate=hover, **bars))
    side = "left" if threshold > 0.5 else "right"
    said = {"annotation_text": f"threshold {threshold:.2f}", "annotation_position": f"top {side}"}
    figure.add_vline(x=threshold, line_dash="dash", line_color=BLUE, **said)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="score: probability of bleeding", range=[0, 1])
    figure.update_yaxes(title="share of slices", tickformat=".0%")
    beyond = [float((values >= threshold).mean()) for _, values, _, _ in groups]
    alt = (
        f"Histograms of the scores of slices without and with bleeding. At the threshold {threshold:.2f}, "
        f"{beyond[1]:.0%} of the bleeding slices and {beyond[0]:.0%} of the others are called bleeding."
    )
    return finish(figure, alt, "400px")


def calibration(labels: Any, scores: Any, *, groups: int = CALIBRATION_GROUPS) -> go.Figure:
    """Reliability: of the slices with a score near s, what share bleeds?

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        groups: Of equal size.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    share, mean = calibration_curve(labels, scores, n_bins=groups, strategy="quantile")
    figure = go.Figure()
    ideal = {"color": "rgba(128,128,128,0.7)", "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=ideal, name="calibrated", hoverinfo="skip"))
    style = {"mode": "lines+markers", "line": {"color": BLUE}, "marker": {"size": 9}}
    figure.add_trace(go.Scatter(x=mean, y=share, name="classifier", **style))
    figure.update_xaxes(title="mean score of the group", range=[-0.02, 1.02])
    figure.update_yaxes(title="share that bleeds", range=[-0.02, 1.02])
    error = calibration_errors(labels, scores, groups=groups)["ece"]
    alt = f"Reliability of the scores in {len(mean)} groups: on average {error:.2f} away from perfect calibration."
    return finish(figure, alt, "400px")


def confusion_by_type(table: pd.DataFrame) -> go.Figure:
    """What slices show against what is said of them, as counts and as shares of the row.

    Args:
        table: From `diagnosis.confusion_by_type`.
    """
    slices = table.sum(axis=1)
    shares = table.div(slices.where(slices > 0), axis=0)
    text = table.astype(str) + shares.map(" · {:.0%}".format, na_action="ignore")
    rows = zip(table.index, shares.iloc[:, 0], slices, strict=True)
    said = ", ".join(f"{kind} {share:.0%} of {n}" for kind, share, n in rows if n)
    alt = f"What slices show, row by row, and what share is {table.columns[0]}: {said}."
    return _shaded(shares, text, slices, alt)


def predicted_types(table: pd.DataFrame) -> go.Figure:
    """True type against said type, as shares of the row.

    Args:
        table: From `diagnosis.predicted_types`.
    """
    shares = table.drop(columns="slices")
    text = shares.map("{:.0%}".format, na_action="ignore")
    right = [f"{name} {text.loc[name, name]!s}" for name in SUBTYPES if table["slices"][name]]
    alt = (
        "Share of the slices with each type, row by row, in which each type is said, column by column. "
        f"Said where it is: {', '.join(right)}."
    )
    return _shaded(shares, text, table["slices"], alt, title="said")


def _shaded(shares: pd.DataFrame, text: pd.DataFrame, slices: pd.Series, alt: str, *, title: str = "") -> go.Figure:
    """A table whose cells are shaded by their share of the row's slices; rows without a slice stay empty."""
    rows = [f"{kind}<br>n = {n}" for kind, n in slices.items()]
    figure = go.Figure(
        go.Heatmap(
            z=shares.round(3), x=shares.columns, y=rows, text=text.fillna(""), texttemplate="%{text}", zmin=0, zmax=1,
            colorscale="Cividis", showscale=False, xgap=2, ygap=2, hovertemplate="%{y}: %{text} %{x}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False, title=title)
    return finish(figure, alt, f"{90 + 44 * len(shares)}px")


def sensitivity_by_size(table: pd.DataFrame, *, what: str) -> go.Figure:
    """The share of bleeds that is found, by size, with intervals.

    Args:
        table: From `diagnosis.sensitivity_by_size`.
        what: What is counted: "slices" or "scans".
    """
    labels = [f"{size} (n = {n})" for size, n in table["n"].items()]
    said = [f"{label}: {share:.0%}" for label, share, n in zip(labels, table["mean"], table["n"], strict=True) if n]
    alt = f"Share of bleeding {what} that is said to bleed, by size, with 95 % intervals: {', '.join(said)}."
    rows = table.assign(label=labels, method="classifier")
    return intervals(rows, alt, title="sensitivity", limits=(-0.02, 1.02))

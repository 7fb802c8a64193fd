"""Figures of detection: ROC curves, score histograms, calibration, confusion matrices, sensitivity by size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve

from hgisam.data.labels import SUBTYPES
from hgisam_book.figures.charts import COLOURS, DASHES, intervals
from hgisam_book.figures.page import BLUE, SKY, VERMILION, apply_style
from hgisam_book.studies.error_analysis import CALIBRATION_GROUPS, calibration_errors


def roc(curves: Mapping[str, tuple[Any, Any]], *, thresholds: Mapping[str, float] | None = None) -> go.Figure:
    """ROC curves with their operating points.

    Args:
        curves: Name → (labels 0/1 [n], scores [n]).
        thresholds: Name → operating point: a slice with at least this score is predicted bleeding.
    """
    figure = go.Figure()
    areas = []
    for (name, (labels, scores)), colour, dash in zip(curves.items(), COLOURS, DASHES, strict=False):
        labels, scores = np.asarray(labels), np.asarray(scores)
        if len(np.unique(labels)) < 2:
            areas.append(f"{name} none, since all slices are of one class")
            continue
        false_positive, true_positive, _ = roc_curve(labels, scores)
        areas.append(f"{name} {roc_auc_score(labels, scores):.3f}")
        line = {"color": colour, "dash": dash, "width": 3}
        named = {"name": f"{name}, AUROC {roc_auc_score(labels, scores):.3f}"}
        hover = "1 - specificity %{x:.2f}, sensitivity %{y:.2f}<extra></extra>"
        figure.add_trace(go.Scatter(x=false_positive, y=true_positive, line=line, hovertemplate=hover, **named))
        if thresholds and name in thresholds:
            predicted = scores >= thresholds[name]
            point = {"x": [predicted[labels == 0].mean()], "y": [predicted[labels == 1].mean()]}
            marker = {"size": 13, "color": colour, "symbol": "diamond", "line": {"width": 1, "color": "white"}}
            figure.add_trace(go.Scatter(**point, mode="markers", marker=marker, name="operating point"))
    chance = {"color": "rgba(128,128,128,0.7)", "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=chance, name="chance", hoverinfo="skip"))
    figure.update_xaxes(title="1 - specificity", range=[-0.02, 1.02])
    figure.update_yaxes(title="sensitivity", range=[-0.02, 1.02])
    return apply_style(figure, f"ROC curves; area under each: {', '.join(areas)}.", "460px")


def score_histogram(labels: Any, scores: Any, threshold: float) -> go.Figure:
    """Histograms of the scores of bleeding and of other slices, with the operating point.

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        threshold: Operating point: a slice with at least this score is predicted bleeding.
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
    label = {"annotation_text": f"threshold {threshold:.2f}", "annotation_position": f"top {side}"}
    figure.add_vline(x=threshold, line_dash="dash", line_color=BLUE, **label)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(title="predicted probability of bleeding", range=[0, 1])
    figure.update_yaxes(title="share of slices", tickformat=".0%")
    beyond = [f"{(values >= threshold).mean():.0%}" if len(values) else "none" for _, values, _, _ in groups]
    alt = (
        f"Histograms of the scores of slices without and with bleeding. At the threshold {threshold:.2f}, "
        f"{beyond[1]} of the bleeding slices and {beyond[0]} of the others are predicted bleeding."
    )
    return apply_style(figure, alt, "400px")


def calibration(labels: Any, scores: Any, *, groups: int = CALIBRATION_GROUPS) -> go.Figure:
    """Reliability diagram: observed frequency of bleeding against the predicted probability.

    Args:
        labels: [n] 0/1.
        scores: [n] in [0, 1].
        groups: Number of bins, with equally many slices each.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    share, mean = calibration_curve(labels, scores, n_bins=groups, strategy="quantile")
    figure = go.Figure()
    ideal = {"color": "rgba(128,128,128,0.7)", "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=ideal, name="calibrated", hoverinfo="skip"))
    style = {"mode": "lines+markers", "line": {"color": BLUE}, "marker": {"size": 9}}
    figure.add_trace(go.Scatter(x=mean, y=share, name="classifier", **style))
    figure.update_xaxes(title="mean predicted probability", range=[-0.02, 1.02])
    figure.update_yaxes(title="observed frequency", range=[-0.02, 1.02])
    error = calibration_errors(labels, scores, groups=groups)["ece"]
    alt = f"Reliability diagram with {len(mean)} bins. Expected calibration error: {error:.2f}."
    return apply_style(figure, alt, "400px")


def confusion_by_type(table: pd.DataFrame) -> go.Figure:
    """Confusion matrix of bleeding types against the prediction, as counts and as shares of the row.

    Args:
        table: From `hgisam_book.studies.error_analysis.confusion_by_type`.
    """
    slices = table.sum(axis=1)
    shares = table.div(slices.where(slices > 0), axis=0)
    text = table.astype(str) + shares.map(" · {:.0%}".format, na_action="ignore")
    rows = zip(table.index, shares.iloc[:, 0], slices, strict=True)
    by_type = ", ".join(f"{kind} {share:.0%} of {n}" for kind, share, n in rows if n)
    alt = f"Confusion matrix: true type by row. Share {table.columns[0]}: {by_type}."
    return _shaded(shares, text, slices, alt)


def predicted_types(table: pd.DataFrame) -> go.Figure:
    """Confusion matrix of the true types against the predicted types, as shares of the row.

    Args:
        table: From `hgisam_book.studies.error_analysis.predicted_types`.
    """
    shares = table.drop(columns="slices")
    text = shares.map("{:.0%}".format, na_action="ignore")
    right = [f"{name} {text.loc[name, name]!s}" for name in SUBTYPES if table["slices"][name]]
    alt = (
        "Share of the slices of each true type, by row, for which each type is predicted, by column. "
        f"Correctly predicted: {', '.join(right)}."
    )
    return _shaded(shares, text, table["slices"], alt, title="predicted")


def _shaded(shares: pd.DataFrame, text: pd.DataFrame, slices: pd.Series, alt: str, *, title: str = "") -> go.Figure:
    """Heat map of a table, shaded by the share of the row's slices; rows without a slice stay empty."""
    rows = [f"{kind}<br>n = {n}" for kind, n in slices.items()]
    figure = go.Figure(
        go.Heatmap(
            z=shares.round(3), x=shares.columns, y=rows, text=text.fillna(""), texttemplate="%{text}", zmin=0, zmax=1,
            colorscale="Cividis", showscale=False, xgap=2, ygap=2, hovertemplate="%{y}: %{text} %{x}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False, title=title)
    return apply_style(figure, alt, f"{90 + 44 * len(shares)}px")


def sensitivity_by_size(table: pd.DataFrame, *, what: str) -> go.Figure:
    """Sensitivity by lesion size with 95 % confidence intervals.

    Args:
        table: From `hgisam_book.studies.error_analysis.sensitivity_by_size`.
        what: Unit of the counts: "slices" or "scans".
    """
    labels = [f"{size} (n = {n})" for size, n in table["n"].items()]
    shares = [f"{label}: {share:.0%}" for label, share, n in zip(labels, table["mean"], table["n"], strict=True) if n]
    alt = f"Sensitivity for bleeding {what} by size, with 95 % confidence intervals: {', '.join(shares)}."
    rows = table.assign(label=labels, method="classifier")
    return intervals(rows, alt, title="sensitivity", limits=(-0.02, 1.02))

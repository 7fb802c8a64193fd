"""Figures of the supervised baselines: learning curves per fold, and Dice against the number of annotated scans."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS, DASHES
from hgisam_book.figures.page import METHOD_COLOURS, METHOD_NAMES, ORANGE, apply_style
from hgisam_book.studies.error_analysis import check_history

BAND = "rgba(0,114,178,0.18)"  # the blue of HGI-SAM, transparent


def fold_curves(histories: Mapping[str, Mapping[int, pd.DataFrame]], *, metric: str = "val_dice") -> go.Figure:
    """Learning curves of cross-validation: one panel per method, one line per fold, a ring at the selected epoch.

    Args:
        histories: Method → held-out fold → `train.csv` with the columns epoch and `metric`.
        metric: Column of the validation metric; higher is better.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    names = [METHOD_NAMES.get(name, name) for name in histories]
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=names)
    described = []
    for row, (name, folds) in enumerate(histories.items(), start=1):
        best_of_folds = []
        for number, (fold, history) in enumerate(folds.items()):
            check_history(f"{name}, fold {fold}", history, ["epoch", metric])
            line = {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)]}
            style = {"name": f"fold {fold} held out", "legendgroup": str(fold), "showlegend": row == 1}
            points = {"x": history["epoch"], "y": history[metric].round(4)}
            figure.add_trace(go.Scatter(**points, mode="lines", line=line, **style), row=row, col=1)
            best = history.iloc[int(np.nanargmax(history[metric]))]
            ring = {"size": 11, "symbol": "circle-open", "color": line["color"], "line": {"width": 2}}
            style = {"mode": "markers", "marker": ring, "legendgroup": str(fold), "showlegend": False}
            figure.add_trace(go.Scatter(x=[best["epoch"]], y=[best[metric]], **style), row=row, col=1)
            best_of_folds.append(f"{best[metric]:.2f} in epoch {best['epoch']:.0f}")
        described.append(f"{METHOD_NAMES.get(name, name)}: {', '.join(best_of_folds)}")
    figure.update_xaxes(title="epoch", row=len(names), col=1)
    figure.update_yaxes(title="validation Dice", rangemode="tozero")
    alt = f"Validation Dice per epoch and fold. Selected epochs: {'; '.join(described)}."
    return apply_style(figure, alt, f"{140 + 180 * len(names)}px")


def label_budget(
    curve: pd.DataFrame, folds: pd.DataFrame, weak: Mapping[str, object], equivalent: float | None
) -> go.Figure:
    """Dice of a supervised segmenter against the number of annotated scans, beside the weakly supervised method.

    Args:
        curve: Columns scans, mean, low, high; ascending number of scans.
        folds: Columns scans and dice; one row per fold and budget.
        weak: mean and ci95 of the weakly supervised method, on the same slices.
        equivalent: Number of scans at which the curve reaches the weakly supervised method; None if it does not.
    """
    figure = go.Figure()
    mean, ends = weak["mean"], weak["ci95"]
    if isinstance(ends, list):
        figure.add_hrect(y0=ends[0], y1=ends[1], fillcolor=BAND, line_width=0)
    line = {"color": METHOD_COLOURS["hgi_sam"], "dash": "dash"}
    wide = {"x": [curve["scans"].min(), curve["scans"].max()], "y": [mean, mean], "mode": "lines"}
    figure.add_trace(go.Scatter(**wide, line=line, name="HGI-SAM, no annotated scan"))
    dots = {"size": 6, "color": "rgba(128,128,128,0.8)"}
    each = {"x": folds["scans"], "y": folds["dice"].round(4), "mode": "markers", "marker": dots}
    figure.add_trace(go.Scatter(**each, name="U-Net, single fold"))
    bars = {"type": "data", "array": curve["high"] - curve["mean"], "arrayminus": curve["mean"] - curve["low"]}
    look = {"line": {"color": ORANGE}, "marker": {"size": 10}, "error_y": {**bars, "thickness": 2}}
    points = {"x": curve["scans"], "y": curve["mean"].round(4), "mode": "lines+markers"}
    figure.add_trace(go.Scatter(**points, **look, name="U-Net, all folds"))
    if equivalent is not None:
        figure.add_vline(x=equivalent, line_dash="dot", line_color="rgba(128,128,128,0.9)")
    figure.update_xaxes(title="annotated training scans", type="log", tickvals=curve["scans"].round(1).tolist())
    figure.update_yaxes(title="Dice per slice", rangemode="tozero")
    points_read = ", ".join(f"{row.mean:.2f} from {row.scans:.0f}" for row in curve.itertuples(index=False))
    crossing = "is not reached" if equivalent is None else f"is reached at {equivalent:.1f}"
    alt = f"Dice of the U-Net against the number of annotated scans: {points_read}. HGI-SAM's {mean:.2f} {crossing}."
    return apply_style(figure, alt, "440px")

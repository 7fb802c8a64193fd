"""Figures of the supervised baselines: their trainings fold by fold, and what they are worth from few drawn scans."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS, DASHES
from hgisam_book.figures.page import METHOD_COLOURS, METHOD_NAMES, ORANGE, finish
from hgisam_book.studies.error_analysis import check_history

BAND = "rgba(0,114,178,0.18)"  # the blue of HGI-SAM, thinned


def fold_curves(histories: Mapping[str, Mapping[int, pd.DataFrame]], *, metric: str = "val_dice") -> go.Figure:
    """Validation metric epoch by epoch, a panel a method, a line a fold; the kept epoch of each is ringed.

    Args:
        histories: Method → fold that is held out → `train.csv`: epoch, and the metric, the higher the better.
        metric: Column.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    names = [METHOD_NAMES.get(name, name) for name in histories]
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=names)
    said = []
    for row, (name, folds) in enumerate(histories.items(), start=1):
        tops = []
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
            tops.append(f"{best[metric]:.2f} in epoch {best['epoch']:.0f}")
        said.append(f"{METHOD_NAMES.get(name, name)}: {', '.join(tops)}")
    figure.update_xaxes(title="epoch", row=len(names), col=1)
    figure.update_yaxes(title="validation Dice", rangemode="tozero")
    alt = f"Validation Dice of every epoch and fold. Kept: {'; '.join(said)}."
    return finish(figure, alt, f"{140 + 180 * len(names)}px")


def label_budget(
    curve: pd.DataFrame, folds: pd.DataFrame, weak: Mapping[str, object], worth: float | None
) -> go.Figure:
    """Dice of a segmenter against the scans that were drawn for it, and the weak method that needs none.

    Args:
        curve: scans, mean, low, high, fewest scans first.
        folds: scans and dice, a row a fold and budget.
        weak: mean and ci95 of the weak method, on the same slices.
        worth: Where the curve reaches it, or None.
    """
    figure = go.Figure()
    mean, ends = weak["mean"], weak["ci95"]
    if isinstance(ends, list):
        figure.add_hrect(y0=ends[0], y1=ends[1], fillcolor=BAND, line_width=0)
    line = {"color": METHOD_COLOURS["hgi_sam"], "dash": "dash"}
    wide = {"x": [curve["scans"].min(), curve["scans"].max()], "y": [mean, mean], "mode": "lines"}
    figure.add_trace(go.Scatter(**wide, line=line, name="HGI-SAM, no drawn scan"))
    dots = {"size": 6, "color": "rgba(128,128,128,0.8)"}
    each = {"x": folds["scans"], "y": folds["dice"].round(4), "mode": "markers", "marker": dots}
    figure.add_trace(go.Scatter(**each, name="U-Net, a fold"))
    bars = {"type": "data", "array": curve["high"] - curve["mean"], "arrayminus": curve["mean"] - curve["low"]}
    look = {"line": {"color": ORANGE}, "marker": {"size": 10}, "error_y": {**bars, "thickness": 2}}
    points = {"x": curve["scans"], "y": curve["mean"].round(4), "mode": "lines+markers"}
    figure.add_trace(go.Scatter(**points, **look, name="U-Net, all folds"))
    if worth is not None:
        figure.add_vline(x=worth, line_dash="dot", line_color="rgba(128,128,128,0.9)")
    figure.update_xaxes(title="drawn scans to learn from", type="log", tickvals=curve["scans"].round(1).tolist())
    figure.update_yaxes(title="Dice per slice", rangemode="tozero")
    said = ", ".join(f"{row.mean:.2f} from {row.scans:.0f}" for row in curve.itertuples(index=False))
    crossing = "is reached nowhere" if worth is None else f"is reached at {worth:.1f}"
    alt = f"Dice of the U-Net against drawn scans: {said}. HGI-SAM's {mean:.2f} {crossing}."
    return finish(figure, alt, "440px")

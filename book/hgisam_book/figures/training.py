"""Figures of training: learning curves per epoch, and the validation metric over time, beside recorded trainings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS
from hgisam_book.figures.page import BLUE, GREEN, ORANGE, PINK, SKY, VERMILION, apply_style
from hgisam_book.studies.error_analysis import check_history, time_to

TITLES = {
    "val_auroc": "validation AUROC",
    "val_dice": "validation Dice",
    "learning_rate": "learning rate",
    "images_per_s": "slices/s",
    "seconds": "seconds per epoch",
}


def training_curves(
    history: pd.DataFrame,
    *,
    metric: str = "val_auroc",
    also: Sequence[str] = (),
    recorded: Mapping[str, pd.DataFrame] | None = None,
    selected: int | None = None,
) -> go.Figure:
    """Learning curves: losses, the metric that selects the epoch, and further columns, per epoch.

    Args:
        history: `train.csv` with the columns epoch, train_loss, val_loss, `metric` and those of `also`.
        metric: Column of the validation metric; higher is better.
        also: Further columns, one panel each.
        recorded: Name → history of a recorded training; dashed lines, without its training loss.
        selected: Epoch to mark; by default the best by `metric`.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    panels = ["val_loss", metric, *also]
    check_history("the training", history, ["epoch", "train_loss", *panels])
    best = _best(history, metric) if selected is None else history[history["epoch"] == selected].iloc[0]
    heights = [2, 2, *[1] * len(also)]
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights)
    own = [("training loss", "train_loss", BLUE, 1), ("validation loss", "val_loss", ORANGE, 1)]
    own += [(_title(column), column, GREEN, row) for row, column in enumerate(panels[1:], start=2)]
    for name, column, colour, row in own:
        line = {"color": colour, "dash": "dot" if colour == ORANGE else "solid"}
        style = {"mode": "lines+markers", "line": line, "showlegend": row <= 2}
        figure.add_trace(go.Scatter(x=history["epoch"], y=history[column], name=name, **style), row=row, col=1)
    for (name, other), line in zip((recorded or {}).items(), _recorded_lines(), strict=False):
        _add_recorded(figure, name, other, panels, line)
    figure.add_trace(_ring(best, metric, VERMILION, name="selected epoch"), row=2, col=1)
    for row, title in enumerate(["loss", *map(_title, panels[1:])], start=1):
        figure.update_yaxes(title=title.replace(" ", "<br>", 1), row=row, col=1)
    figure.update_yaxes(exponentformat="power", nticks=4)
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    height = f"{120 * sum(heights) + 24 * len(recorded or {})}px"
    return apply_style(figure, _alt(history, best, metric, also, recorded or {}), height, legend_tracegroupgap=0)


def _add_recorded(
    figure: go.Figure, name: str, history: pd.DataFrame, panels: Sequence[str], line: dict[str, str]
) -> None:
    """Add a recorded training: one line per panel, one legend entry, a ring at its best epoch."""
    check_history(name, history, ["epoch", *panels])
    for row, column in enumerate(panels, start=1):
        style = {"mode": "lines", "line": line, "legendgroup": name, "showlegend": row == 1}
        trace = go.Scatter(x=history["epoch"], y=history[column], name=f"recorded: {name}", **style)
        figure.add_trace(trace, row=row, col=1)
    figure.add_trace(
        _ring(_best(history, panels[1]), panels[1], line["color"], legendgroup=name, showlegend=False), row=2, col=1
    )


def metric_over_time(
    own: Mapping[str, pd.DataFrame],
    *,
    metric: str,
    target: float,
    recorded: Mapping[str, pd.DataFrame] | None = None,
) -> go.Figure:
    """Validation metric against training time, and the time to a target value.

    Args:
        own: Name → `train.csv` of a training, with the columns seconds (per epoch) and `metric`.
        metric: Column of the validation metric; higher is better.
        target: Target value, shown as a line.
        recorded: Name → history of a recorded training; dashed lines.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    solid = ({"color": colour, "dash": "solid"} for colour in cycle(COLOURS))
    others = {f"recorded: {name}": history for name, history in (recorded or {}).items()}
    runs = [*zip(own.items(), solid, strict=False), *zip(others.items(), _recorded_lines(), strict=False)]
    figure, times = go.Figure(), []
    for (name, history), line in runs:
        reached = time_to(history, metric, target)
        minutes = history["seconds"].cumsum() / 60
        hover = f"{name}: %{{y:.3f}} after %{{x:.1f}} min<extra></extra>"
        style = {"mode": "lines+markers", "line": line, "hovertemplate": hover}
        figure.add_trace(go.Scatter(x=minutes.round(3), y=history[metric], name=name, **style))
        times.append(f"{name} {'never' if reached is None else f'after {reached / 60:.1f} minutes'}")
    figure.add_hline(y=target, line_dash="dot", line_color="rgba(128,128,128,0.8)", annotation_text=f"{target:g}")
    figure.update_xaxes(title="training time in minutes", rangemode="tozero")
    figure.update_yaxes(title=_title(metric))
    alt = f"{_title(metric)} against training time in minutes. Target {target:g} reached: {', '.join(times)}."
    return apply_style(figure, alt, "400px", showlegend=True)


def _title(column: str) -> str:
    return TITLES.get(column, column.replace("_", " "))


def _recorded_lines() -> Iterator[dict[str, str]]:
    """Line styles of recorded trainings, cycling through dash patterns and colours."""
    return ({"color": colour, "dash": dash} for dash, colour in cycle(product(("dash", "dashdot"), (PINK, SKY))))


def _best(history: pd.DataFrame, metric: str) -> pd.Series:
    return history.iloc[int(np.nanargmax(history[metric]))]


def _ring(epoch: pd.Series, metric: str, colour: str, **named: object) -> go.Scatter:
    """Ring marker at one epoch."""
    marker = {"size": 15, "symbol": "circle-open", "color": colour, "line": {"width": 3}}
    return go.Scatter(x=[epoch["epoch"]], y=[epoch[metric]], mode="markers", marker=marker, **named)


def _alt(
    history: pd.DataFrame, best: pd.Series, metric: str, also: Sequence[str], recorded: Mapping[str, pd.DataFrame]
) -> str:
    alt = (
        f"Training and validation loss over {len(history)} epochs, and below them the {_title(metric)}: "
        f"{best[metric]:.3f} in epoch {best['epoch']:.0f}, the selected one."
    )
    if also:
        alt += f" Below that: {', '.join(map(_title, also))}."
    if recorded:
        tops = [f"{name} {other[metric].max():.3f}" for name, other in recorded.items()]
        alt += f" Dashed: recorded trainings, best values {', '.join(tops)}."
    return alt

"""Figures of a training: its curves epoch by epoch, and what it reached in which time, beside recorded trainings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.charts import COLOURS
from hgisam_book.figures.page import BLUE, GREEN, ORANGE, PINK, SKY, VERMILION, finish
from hgisam_book.studies.error_analysis import check_history, time_to

TITLES = {
    "val_auroc": "validation AUROC",
    "val_dice": "validation Dice",
    "learning_rate": "learning rate",
    "images_per_s": "slices a second",
    "seconds": "seconds an epoch",
}


def training_curves(
    history: pd.DataFrame,
    *,
    metric: str = "val_auroc",
    also: Sequence[str] = (),
    recorded: Mapping[str, pd.DataFrame] | None = None,
    kept: int | None = None,
) -> go.Figure:
    """Losses, the metric that chose the epoch, and what else was written down, epoch by epoch.

    Args:
        history: `train.csv`: epoch, train_loss, val_loss, the metric, and the columns of `also`.
        metric: Column, the higher the better.
        also: Further columns, a panel each.
        recorded: Name → history of a training that is not this one; drawn dashed, of its losses that of validation.
        kept: The epoch to mark; without it the one that is best by `metric`.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    panels = ["val_loss", metric, *also]
    check_history("the training", history, ["epoch", "train_loss", *panels])
    chosen = _best(history, metric) if kept is None else history[history["epoch"] == kept].iloc[0]
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
    figure.add_trace(_ring(chosen, metric, VERMILION, name="kept epoch"), row=2, col=1)
    for row, title in enumerate(["loss", *map(_title, panels[1:])], start=1):
        figure.update_yaxes(title=title.replace(" ", "<br>", 1), row=row, col=1)
    figure.update_yaxes(exponentformat="power", nticks=4)
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    height = f"{120 * sum(heights) + 24 * len(recorded or {})}px"
    return finish(figure, _alt(history, chosen, metric, also, recorded or {}), height, legend_tracegroupgap=0)


def _add_recorded(
    figure: go.Figure, name: str, history: pd.DataFrame, panels: Sequence[str], line: dict[str, str]
) -> None:
    """A training that is not the reader's: one line a panel, one entry in the legend, its best epoch ringed."""
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
    """What trainings reached in how many minutes, and when each came to a target.

    Args:
        own: Name → `train.csv` of a training: seconds of each epoch, and the metric.
        metric: Column, the higher the better.
        target: Value to reach, drawn as a line.
        recorded: Name → history of a training that was made elsewhere; drawn dashed.

    Raises:
        InputError: If a history is empty or lacks a column.
    """
    solid = ({"color": colour, "dash": "solid"} for colour in cycle(COLOURS))
    others = {f"recorded: {name}": history for name, history in (recorded or {}).items()}
    runs = [*zip(own.items(), solid, strict=False), *zip(others.items(), _recorded_lines(), strict=False)]
    figure, said = go.Figure(), []
    for (name, history), line in runs:
        reached = time_to(history, metric, target)
        minutes = history["seconds"].cumsum() / 60
        hover = f"{name}: %{{y:.3f}} after %{{x:.1f}} min<extra></extra>"
        style = {"mode": "lines+markers", "line": line, "hovertemplate": hover}
        figure.add_trace(go.Scatter(x=minutes.round(3), y=history[metric], name=name, **style))
        said.append(f"{name} {'never' if reached is None else f'after {reached / 60:.1f} minutes'}")
    figure.add_hline(y=target, line_dash="dot", line_color="rgba(128,128,128,0.8)", annotation_text=f"{target:g}")
    figure.update_xaxes(title="minutes of training", rangemode="tozero")
    figure.update_yaxes(title=_title(metric))
    alt = f"{_title(metric)} against minutes of training. {target:g} is reached by {', '.join(said)}."
    return finish(figure, alt, "400px", showlegend=True)


def _title(column: str) -> str:
    return TITLES.get(column, column.replace("_", " "))


def _recorded_lines() -> Iterator[dict[str, str]]:
    """Dashed lines, the next always another."""
    return ({"color": colour, "dash": dash} for dash, colour in cycle(product(("dash", "dashdot"), (PINK, SKY))))


def _best(history: pd.DataFrame, metric: str) -> pd.Series:
    return history.iloc[int(np.nanargmax(history[metric]))]


def _ring(epoch: pd.Series, metric: str, colour: str, **named: object) -> go.Scatter:
    """A ring about one epoch."""
    marker = {"size": 15, "symbol": "circle-open", "color": colour, "line": {"width": 3}}
    return go.Scatter(x=[epoch["epoch"]], y=[epoch[metric]], mode="markers", marker=marker, **named)


def _alt(
    history: pd.DataFrame, chosen: pd.Series, metric: str, also: Sequence[str], recorded: Mapping[str, pd.DataFrame]
) -> str:
    alt = (
        f"Training and validation loss over {len(history)} epochs, and below them the {_title(metric)}: "
        f"{chosen[metric]:.3f} in epoch {chosen['epoch']:.0f}, the one that was kept."
    )
    if also:
        alt += f" Below that: {', '.join(map(_title, also))}."
    if recorded:
        tops = [f"{name} {other[metric].max():.3f}" for name, other in recorded.items()]
        alt += f" Dashed, the best of recorded trainings: {', '.join(tops)}."
    return alt

"""Maps of a few slices to leaf through: a slider over layers, a menu of slices, a menu of what is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from hgisam_book.figures.page import (
    TRUTH,
    Grey,
    finish,
    grey_png,
    image_height,
    map_png,
    menu,
    outline_png,
    picture,
    show_pixels,
    shrink,
    slider,
)
from hgisam_book.figures.slices import GAP_PX, captions, mosaic

Floats = npt.NDArray[np.floating]
PANEL_PX = 96
MOST_TOKENS = 64  # along a side of a map; finer ones are averaged, since noise is what compresses least
LEVELS = 16  # four bits a pixel


@dataclass(frozen=True)
class Panels:
    """What one step of the slider shows of each slice.

    `label`: of the step. `titles`: one a panel. `maps`: what is shown → [slice, panel, rows, cols] in [0, 1], on any
    grid that covers the slice.
    """

    label: str
    titles: Sequence[str]
    maps: Mapping[str, Floats]


def map_explorer(
    grey: Grey,
    truth: npt.NDArray[np.bool_],
    names: Sequence[str],
    steps: Sequence[Panels],
    alt: str,
    *,
    columns: int,
    active: int = 0,
) -> go.Figure:
    """Panels over a slice: the slider changes the step, a menu the slice, a second menu what is shown.

    Tokens are drawn as squares, so that one sees how coarse they are. All panels of a step are one small PNG.

    Args:
        grey: [slice, H, W] grey values, H = W.
        truth: [slice, H, W], outlined in every panel.
        names: One a slice.
        steps: Each with the same kinds of maps.
        alt: What the figure shows.
        columns: Panels in a row.
        active: Step shown first.
    """
    kinds, places = list(steps[0].maps), -(-max(len(step.titles) for step in steps) // columns) * columns
    grey, truth = shrink(grey, PANEL_PX), shrink(truth, PANEL_PX)
    side = len(grey[0])
    below, outlines = ([mosaic(np.repeat(i[None], places, axis=0), columns) for i in each] for each in (grey, truth))
    overlays = [_overlays(step, side, columns, places) for step in steps]
    sources = [*map(grey_png, below), *overlays[active], *(outline_png(mask, TRUTH) for mask in outlines)]
    figure = go.Figure([picture(source, *below[0].shape) for source in sources])
    changing = list(range(len(names), len(names) + len(overlays[0])))  # kind by kind, slice by slice
    layouts = [_layout(step, side, columns) for step in steps]
    moves = [
        ("update", [{"source": overlay}, layout, changing]) for overlay, layout in zip(overlays, layouts, strict=True)
    ]
    labels = [step.label.replace(" ", "\u00a0") for step in steps]
    # above the panels: what a small step leaves free is below them
    above: dict[str, Any] = {"y": 1, "yanchor": "bottom", "pad": {"t": 0, "b": 12}}
    sliders = [slider("", labels, moves, active, **above)] if len(steps) > 1 else []
    top = {"pad": {"b": 78 if sliders else 6}}
    visible = [[number % len(names) == chosen for number in range(len(sources))] for chosen in range(len(names))]
    menus = [menu(names, [("restyle", [{"visible": each}]) for each in visible], **top)]
    opacity = [[float(kind == chosen) for kind in kinds for _ in names] for chosen in kinds]
    if len(kinds) > 1:
        menus.append(
            menu(kinds, [("restyle", [{"opacity": o}, changing]) for o in opacity], x=1, xanchor="right", **top)
        )
    show_pixels(figure, *below[0].shape)
    figure.update_yaxes(constraintoward="top").plotly_restyle({"visible": visible[0]})
    figure.plotly_restyle({"opacity": opacity[0]}, changing)
    figure.update_layout({key.replace(".", "_"): value for key, value in layouts[active].items()})
    return finish(
        figure,
        alt,
        image_height(*below[0].shape, widest_px=760, extra_px=130 if sliders else 56),
        sliders=sliders,
        updatemenus=menus,
        margin={"l": 4, "r": 4, "t": 120 if sliders else 48, "b": 8},
    )


def _overlays(step: Panels, side: int, columns: int, places: int) -> list[str]:
    """A PNG a kind of map and slice, in this order."""
    sheets = []
    for maps in step.maps.values():
        small = shrink(maps.reshape(-1, *maps.shape[2:]), MOST_TOKENS)
        rows, cols = (np.arange(side) * tokens // side for tokens in small.shape[1:])
        for panels in small[:, rows][..., cols].reshape(*maps.shape[:2], side, side):
            sheet = mosaic(np.pad(panels, ((0, places - len(panels)), (0, 0), (0, 0))), columns)
            sheets.append(map_png(sheet, LEVELS))
    return sheets


def _layout(step: Panels, side: int, columns: int) -> dict[str, Any]:
    """Titles of the panels, and as much of the sheet as the step has panels: few of them are shown larger."""
    count, place = len(step.titles), side + GAP_PX
    rows, wide = -(-count // columns), min(count, columns)
    used = count - (rows - 1) * columns
    corner = {"x0": used * place - 0.5, "x1": wide * place - 0.5, "y0": (rows - 1) * place - 0.5, "y1": rows * place}
    cover = {"type": "rect", "fillcolor": "black", "line": {"width": 0}, **corner}
    return {
        "annotations": captions(step.titles, columns, side, side),
        "shapes": [cover] if used < wide else [],
        "xaxis.range": [-0.5, wide * place - 0.5],
        "yaxis.range": [rows * place - 0.5, -0.5],
    }

"""Interactive map explorer for a few slices: a slider over layers, a menu of slices, a menu of map kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from hgisam_book.figures.page import (
    TRUTH,
    Grey,
    apply_style,
    contour_png,
    downsample,
    grey_png,
    image_height,
    map_png,
    menu,
    picture,
    show_pixels,
    slider,
)
from hgisam_book.figures.slices import GAP_PX, captions, mosaic

Floats = npt.NDArray[np.floating]
PANEL_PX = 96
MAX_TOKENS = 64  # per side of a map; finer maps are averaged, because noise compresses badly
LEVELS = 16  # four bits per pixel


@dataclass(frozen=True)
class Panels:
    """The panels that one step of the slider shows for each slice.

    Attributes:
        label: Label of the step.
        titles: One per panel.
        maps: Kind of map → [slice, panel, rows, cols] in [0, 1], on any grid that covers the slice.
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
    """Map panels over a slice: a slider selects the step, one menu the slice, a second menu the kind of map.

    Tokens appear as squares, so that the resolution of the grid is visible. All panels of a step are one small PNG.

    Args:
        grey: [slice, H, W] grey values, H = W.
        truth: [slice, H, W] ground truth, shown as a contour in every panel.
        names: One per slice.
        steps: All with the same kinds of maps.
        alt: Alternative text.
        columns: Panels per row.
        active: Index of the step shown first.
    """
    kinds, places = list(steps[0].maps), -(-max(len(step.titles) for step in steps) // columns) * columns
    grey, truth = downsample(grey, PANEL_PX), downsample(truth, PANEL_PX)
    side = len(grey[0])
    below, contours = ([mosaic(np.repeat(i[None], places, axis=0), columns) for i in each] for each in (grey, truth))
    overlays = [_overlays(step, side, columns, places) for step in steps]
    sources = [*map(grey_png, below), *overlays[active], *(contour_png(mask, TRUTH) for mask in contours)]
    figure = go.Figure([picture(source, *below[0].shape) for source in sources])
    changing = list(range(len(names), len(names) + len(overlays[0])))  # kind by kind, slice by slice
    layouts = [_layout(step, side, columns) for step in steps]
    moves = [
        ("update", [{"source": overlay}, layout, changing]) for overlay, layout in zip(overlays, layouts, strict=True)
    ]
    labels = [step.label.replace(" ", "\u00a0") for step in steps]
    # above the panels, because a step with few panels leaves free space below them
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
    return apply_style(
        figure,
        alt,
        image_height(*below[0].shape, max_width_px=760, extra_px=130 if sliders else 56),
        sliders=sliders,
        updatemenus=menus,
        margin={"l": 4, "r": 4, "t": 120 if sliders else 48, "b": 8},
    )


def _overlays(step: Panels, side: int, columns: int, places: int) -> list[str]:
    """One PNG per kind of map and slice, in this order."""
    sheets = []
    for maps in step.maps.values():
        small = downsample(maps.reshape(-1, *maps.shape[2:]), MAX_TOKENS)
        rows, cols = (np.arange(side) * tokens // side for tokens in small.shape[1:])
        for panels in small[:, rows][..., cols].reshape(*maps.shape[:2], side, side):
            sheet = mosaic(np.pad(panels, ((0, places - len(panels)), (0, 0), (0, 0))), columns)
            sheets.append(map_png(sheet, LEVELS))
    return sheets


def _layout(step: Panels, side: int, columns: int) -> dict[str, Any]:
    """Panel titles, and axis ranges that fit the number of panels: few panels are shown larger."""
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

"""Figures of slices: the window slider, contact sheets, the slice viewer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam.data.windows import to_uint8
from hgisam_book.figures.page import (
    ORANGE,
    SKY,
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
    wrapped,
)

Floats = npt.NDArray[np.floating]
GAP_PX = 2  # between the images of a mosaic
VIEWER_PX = 160  # keeps a viewer of 24 slices with three maps below one megabyte


def window_slider(hu: npt.NDArray[np.integer], windows: Sequence[tuple[str, float, float]]) -> go.Figure:
    """A slice in several CT windows, with its HU histogram and the transfer function from HU to grey values.

    Args:
        hu: [H, W] in HU.
        windows: (name, window level in HU, window width in HU) of each slider step.
    """
    hu = downsample(hu[None], VIEWER_PX)[0]
    counts, edges = np.histogram(hu, bins=np.arange(-200, 2020, 20))
    share = np.log10(counts + 1) / np.log10(counts.max() + 1)
    figure = make_subplots(rows=2, cols=1, row_heights=[0.8, 0.2], vertical_spacing=0.09)
    figure.add_trace(picture(grey_png(to_uint8(hu, *windows[0][1:])), *hu.shape), row=1, col=1)
    bars = {"name": "pixels (log)", "marker_color": "rgba(128,128,128,0.6)"}
    figure.add_trace(go.Bar(x=edges[:-1] + 10, y=share, width=20, hoverinfo="skip", **bars), row=2, col=1)
    ramps = [[-200, c - w / 2, c + w / 2, 2000] for _, c, w in windows]
    line = {"mode": "lines", "line": {"color": ORANGE, "width": 3}, "name": "grey value"}
    figure.add_trace(go.Scatter(x=ramps[0], y=[0, 0, 1, 1], hoverinfo="skip", **line), row=2, col=1)
    steps = [
        ("restyle", [{"source": [grey_png(to_uint8(hu, c, w)), None], "x": [None, ramp]}, [0, 2]])
        for (_, c, w), ramp in zip(windows, ramps, strict=True)
    ]
    show_pixels(figure, *hu.shape, row=1, col=1)
    figure.update_xaxes(ticksuffix=" HU", range=[-200, 2000], fixedrange=True, row=2, col=1)
    figure.update_yaxes(visible=False, range=[0, 1.1], fixedrange=True, row=2, col=1)
    labels = [f"{name} {c:g}/{w:g}" for name, c, w in windows]
    names = ", ".join(labels)
    alt = (
        "A head CT slice in the CT window selected by the slider (level/width in HU): "
        f"{names}. Below it, the HU histogram of the slice and the ramp from black to white of the selected window."
    )
    return apply_style(
        figure,
        alt,
        image_height(1.25 * hu.shape[0], hu.shape[1], max_width_px=460, extra_px=90),
        sliders=[slider("window (level/width): ", labels, steps)],
        showlegend=False,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )


def contact_sheet(
    grey: Grey,
    titles: Sequence[str],
    alt: str,
    *,
    columns: int,
    maps: Floats | None = None,
    contours: Mapping[str, tuple[npt.NDArray[np.bool_], str]] | None = None,
    max_width_px: int = 760,
    max_px: int = 128,
) -> go.Figure:
    """Contact sheet: slices side by side with titles, optionally with maps or mask contours as overlays.

    Args:
        grey: [n, H, W] grey values.
        titles: One per slice.
        alt: Alternative text.
        columns: Slices per row of the sheet.
        maps: [n, H, W] in [0, 1], overlaid on the slices.
        contours: Name → (masks [n, H, W], colour).
        max_width_px: Width on a large screen.
        max_px: Larger slices are downsampled to this side.
    """

    def sheet(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return mosaic(downsample(images, max_px), columns)

    below = sheet(grey)
    shape = below.shape
    figure = go.Figure(picture(grey_png(below), *shape))
    if maps is not None:
        figure.add_trace(picture(map_png(sheet(maps)), *shape))
    for name, (masks, colour) in (contours or {}).items():
        figure.add_trace(picture(contour_png(sheet(masks), colour), *shape))
        marker = {"size": 12, "symbol": "square", "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    show_pixels(figure, *shape)
    figure.update_layout(annotations=captions(titles, columns, *downsample(grey[:1], max_px).shape[1:]))
    height_css = image_height(*shape, max_width_px=max_width_px, extra_px=70 if contours else 10)
    margin = {"l": 0, "r": 0, "t": 4, "b": 4}
    return apply_style(figure, alt, height_css, margin=margin, showlegend=bool(contours))


def mosaic(images: npt.NDArray[Any], columns: int) -> npt.NDArray[Any]:
    """Images [n, H, W] as one mosaic, row by row, with a gap of zeros right of and below each; empty cells are 0."""
    n, height, width = images.shape
    rows = -(-n // columns)
    padded = np.pad(images, ((0, rows * columns - n), (0, GAP_PX), (0, GAP_PX)))
    lines = padded.reshape(rows, columns, height + GAP_PX, width + GAP_PX).swapaxes(1, 2)
    return lines.reshape(rows * (height + GAP_PX), columns * (width + GAP_PX))


def captions(titles: Sequence[str], columns: int, height: int, width: int) -> list[dict[str, Any]]:
    """Plotly annotations for the upper left corners of the images of a mosaic, each of height × width."""
    look = {"font": {"color": "white", "size": 11}, "bgcolor": "rgba(0,0,0,0.55)", "borderpad": 1, "showarrow": False}
    corners = [
        {"x": (i % columns) * (width + GAP_PX) + 1, "y": (i // columns) * (height + GAP_PX) + 1}
        for i in range(len(titles))
    ]
    place = {"xanchor": "left", "yanchor": "top", "align": "left"}
    return [
        {"text": wrapped(title, columns), **corner, **place, **look}
        for title, corner in zip(titles, corners, strict=True)
    ]


def slice_viewer(
    grey: Mapping[str, Grey],
    titles: Sequence[str],
    alt: str,
    *,
    maps: Mapping[str, Floats] | None = None,
    masks: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    truth: npt.NDArray[np.bool_] | None = None,
    active: int = 0,
) -> go.Figure:
    """Interactive slice viewer: a slider over slices, one over CT windows, a menu of overlays, ground truth on or off.

    Args:
        grey: Name of a CT window → [slice, row, col] grey values; the first window is shown first.
        titles: One per slice, shown above the slider.
        alt: Alternative text.
        maps: Name → [slice, row, col] in [0, 1].
        masks: Name → [slice, row, col], shown as contours.
        truth: [slice, row, col] ground truth, shown as a contour in its own colour.
        active: Index of the slice shown first.
    """
    windows = {name: downsample(values, VIEWER_PX) for name, values in grey.items()}
    count, *shape = next(iter(windows.values())).shape
    layers = {name: [map_png(m) for m in downsample(values, VIEWER_PX)] for name, values in (maps or {}).items()}
    for name, values in (masks or {}).items():
        layers[name] = [contour_png(m, SKY) for m in downsample(values, VIEWER_PX)]
    sources = [*([grey_png(g) for g in values] for values in windows.values()), *layers.values()]
    if truth is not None:
        sources.append([contour_png(m, TRUTH) for m in downsample(truth, VIEWER_PX)])
    figure = go.Figure()
    for number, source in enumerate(sources):
        shown = number in (0, len(windows)) or (truth is not None and number == len(sources) - 1)
        figure.add_trace(picture(source[active], *shape, visible=shown))
    every = list(range(len(sources)))
    steps = [("restyle", [{"source": [source[i] for source in sources]}, every]) for i in range(count)]
    sliders = [slider("", [title.replace(" ", "\u00a0") for title in titles], steps, active)]
    below = list(range(len(windows)))
    if len(windows) > 1:
        views = [("restyle", [{"visible": [n == chosen for n in below]}, below]) for chosen in below]
        sliders.append(slider("window (level/width): ", list(windows), views, pad={"t": 88, "b": 8}))
    overlays = list(range(len(windows), len(windows) + len(layers)))
    choices = [("restyle", [{"visible": [n == chosen for n in overlays]}, overlays]) for chosen in [*overlays, -1]]
    menus = [menu([*layers, "no overlay"], choices)] if layers else []
    if truth is not None:
        on_off = [("restyle", [{"visible": shown}, [len(sources) - 1]]) for shown in (True, False)]
        menus.append(menu(["truth", "no truth"], on_off, x=1, xanchor="right"))
    show_pixels(figure, *shape)
    return apply_style(
        figure,
        alt,
        image_height(*shape, max_width_px=480, extra_px=94 + 56 * len(sliders)),
        sliders=sliders,
        updatemenus=menus,
        margin={"l": 4, "r": 4, "t": 48, "b": 8},
    )

"""Figures of slices: windows, contact sheets, the slice viewer, windows and attention drawn on a slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam.figures.page import (
    BLUE,
    ORANGE,
    SKY,
    TRUTH,
    VERMILION,
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
from hgisam.windows import to_uint8

Floats = npt.NDArray[np.floating]
VIEWER_PX = 160  # keeps a viewer of two dozen slices with three maps under a megabyte


def window_slider(hu: npt.NDArray[np.integer], windows: Sequence[tuple[str, float, float]]) -> go.Figure:
    """One slice through several CT windows, with the slice's HU histogram and the ramp from black to white.

    Args:
        hu: [H, W] HU.
        windows: (name, centre HU, width HU) of each step of the slider.
    """
    hu = shrink(hu[None], VIEWER_PX)[0]
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
    figure.update_xaxes(title="HU", range=[-200, 2000], fixedrange=True, row=2, col=1)
    figure.update_yaxes(visible=False, range=[0, 1.1], fixedrange=True, row=2, col=1)
    labels = [f"{name} {c:g}/{w:g}" for name, c, w in windows]
    names = ", ".join(labels)
    alt = (
        "A head CT slice through a slider of CT windows (centre/width in HU): "
        f"{names}. Below it, the slice's histogram of HU and the ramp from black to white of the chosen window."
    )
    return finish(
        figure,
        alt,
        image_height(1.25 * hu.shape[0], hu.shape[1], widest_px=460, extra_px=90),
        sliders=[slider("window (centre/width): ", labels, steps)],
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
    outlines: Mapping[str, tuple[npt.NDArray[np.bool_], str]] | None = None,
    widest_px: int = 760,
    most_px: int = 128,
) -> go.Figure:
    """Slices side by side, each with a title, and with maps or outlines over them.

    Args:
        grey: [n, H, W] grey values.
        titles: One a slice.
        alt: What the figure shows.
        columns: Slices in a row of the sheet.
        maps: [n, H, W] in [0, 1], drawn over the slices.
        outlines: Name → (masks [n, H, W], colour).
        widest_px: Width on a large screen.
        most_px: Larger slices are shrunk to this side.
    """
    gap, (height, width) = 2, shrink(grey[:1], most_px).shape[1:]
    rows = -(-len(grey) // columns)
    shape = (rows * (height + gap), columns * (width + gap))

    def sheet(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        out = np.zeros(shape, dtype=images.dtype)
        for i, image in enumerate(shrink(images, most_px)):
            r, c = (i // columns) * (height + gap), (i % columns) * (width + gap)
            out[r : r + height, c : c + width] = image
        return out

    figure = go.Figure(picture(grey_png(sheet(grey)), *shape))
    if maps is not None:
        figure.add_trace(picture(map_png(sheet(maps)), *shape))
    for name, (masks, colour) in (outlines or {}).items():
        figure.add_trace(picture(outline_png(sheet(masks), colour), *shape))
        marker = {"size": 12, "symbol": "square", "color": colour}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    show_pixels(figure, *shape)
    look = {"font": {"color": "white", "size": 11}, "bgcolor": "rgba(0,0,0,0.55)", "borderpad": 1}
    for i, title in enumerate(titles):
        corner = {"x": (i % columns) * (width + gap) + 1, "y": (i // columns) * (height + gap) + 1}
        figure.add_annotation(text=title, showarrow=False, xanchor="left", yanchor="top", **corner, **look)
    legend = {"orientation": "h", "y": 0, "yanchor": "top", "x": 0}
    height_css = image_height(*shape, widest_px=widest_px, extra_px=70 if outlines else 10)
    margin = {"l": 0, "r": 0, "t": 4, "b": 4}
    return finish(figure, alt, height_css, margin=margin, legend=legend, showlegend=bool(outlines))


def slice_viewer(
    grey: Grey,
    titles: Sequence[str],
    alt: str,
    *,
    maps: Mapping[str, Floats] | None = None,
    masks: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    truth: npt.NDArray[np.bool_] | None = None,
    active: int = 0,
) -> go.Figure:
    """A scan to leaf through: a slider over its slices, a dropdown of overlays, the true outline on or off.

    Args:
        grey: [slice, row, col] grey values.
        titles: One a slice, shown beside the slider.
        alt: What the figure shows.
        maps: Name → [slice, row, col] in [0, 1].
        masks: Name → [slice, row, col], outlined.
        truth: [slice, row, col], outlined in its own colour.
        active: Slice shown first.
    """
    grey = shrink(grey, VIEWER_PX)
    shape = grey.shape[1:]
    layers = {name: [map_png(m) for m in shrink(values, VIEWER_PX)] for name, values in (maps or {}).items()}
    for name, values in (masks or {}).items():
        layers[name] = [outline_png(m, SKY) for m in shrink(values, VIEWER_PX)]
    sources = [[grey_png(g) for g in grey], *layers.values()]
    if truth is not None:
        sources.append([outline_png(m, TRUTH) for m in shrink(truth, VIEWER_PX)])
    figure = go.Figure()
    for number, source in enumerate(sources):
        shown = number <= 1 or (truth is not None and number == len(sources) - 1)
        figure.add_trace(picture(source[active], *shape, visible=shown))
    every = list(range(len(sources)))
    steps = [("restyle", [{"source": [source[i] for source in sources]}, every]) for i in range(len(grey))]
    overlays = list(range(1, 1 + len(layers)))
    choices = [("restyle", [{"visible": [n == chosen for n in overlays]}, overlays]) for chosen in [*overlays, 0]]
    menus = [menu([*layers, "no overlay"], choices)] if layers else []
    if truth is not None:
        on_off = [("restyle", [{"visible": shown}, [len(sources) - 1]]) for shown in (True, False)]
        menus.append(menu(["true outline", "no outline"], on_off, x=1, xanchor="right"))
    show_pixels(figure, *shape)
    labels = [title.replace(" ", "\u00a0") for title in titles]
    return finish(
        figure,
        alt,
        image_height(*shape, widest_px=480, extra_px=150),
        sliders=[slider("", labels, steps, active)],
        updatemenus=menus,
        margin={"l": 4, "r": 4, "t": 48, "b": 8},
    )


def stage_views(grey: Grey, stages: Sequence[tuple[int, int, int]]) -> go.Figure:
    """One slice as each stage sees it: averaged to the stage's tokens, with the windows of W-MSA and SW-MSA.

    Args:
        grey: [H, W] grey values, H = W.
        stages: (tokens along a side, window in tokens, shift of the shifted blocks in tokens) of each stage.
    """
    size = grey.shape[0]
    views, labels = [], []
    for number, (tokens, window, shift) in enumerate(stages, start=1):
        pooled = grey.reshape(tokens, size // tokens, tokens, size // tokens).mean(axis=(1, 3)).astype(np.uint8)
        source = grey_png(np.kron(pooled, np.ones((size // tokens,) * 2, dtype=np.uint8)))
        for offset, kind in [(0, "W-MSA"), (shift, "SW-MSA")][: 2 if shift else 1]:
            views.append((source, *_window_lines(size, size / tokens, window, offset)))
            labels.append(f"{number} · {kind} · {tokens}×{tokens} tokens")
    figure = go.Figure(picture(views[0][0], size, size))
    line = {"color": ORANGE, "width": 2}
    figure.add_trace(go.Scatter(x=views[0][1], y=views[0][2], mode="lines", line=line, hoverinfo="skip"))
    steps = [("restyle", [{"source": [s, None], "x": [None, x], "y": [None, y]}, [0, 1]]) for s, x, y in views]
    show_pixels(figure, size, size)
    alt = (
        "One slice averaged to the token grid of each Swin stage, coarser from stage to stage, with the attention "
        f"windows as orange lines; the slider goes through {', '.join(labels)}. "
        "In SW-MSA the lines are shifted by half a window."
    )
    height = image_height(size, size, widest_px=460, extra_px=90)
    sliders = [slider("stage ", labels, steps)]
    return finish(figure, alt, height, sliders=sliders, showlegend=False, margin={"l": 4, "r": 4, "t": 4, "b": 8})


def _window_lines(size: int, token_px: float, window: int, shift: int) -> tuple[list[float | None], list[float | None]]:
    """Lines between attention windows as x and y with gaps; a shift moves them down and to the right."""
    step = token_px * window
    at = [p - 0.5 for p in np.arange(shift * token_px, size + 0.5, step)]
    at = sorted({*at, -0.5, size - 0.5})
    x: list[float | None] = []
    y: list[float | None] = []
    for p in at:
        x += [p, p, None, -0.5, size - 0.5, None]
        y += [-0.5, size - 0.5, None, p, p, None]
    return x, y


def attention_rows(grey: Grey, attention: Floats, corner: tuple[int, int], window: int, token_px: int) -> go.Figure:
    """An attention matrix of one window and head, row by row, beside the window on the slice.

    Args:
        grey: [H, W] grey values.
        attention: [N, N] softmax weights, query × key; rows sum to 1.
        corner: (row, col) of the window's first token.
        window: Tokens along a side, N = window².
        token_px: Pixels along a token's side.
    """
    size, (row0, col0) = len(attention), corner
    side = window * token_px
    top, left = row0 * token_px, col0 * token_px
    crop = grey[top : top + side, left : left + side]
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.06, subplot_titles=("matrix: query × key", "its window")
    )
    shades = {
        "colorscale": "Cividis",
        "zmin": float(attention.min()),
        "zmax": float(attention.max()),
        "showscale": False,
    }
    figure.add_trace(
        go.Heatmap(z=attention.round(3), hovertemplate="query %{y}, key %{x}: %{z:.3f}<extra></extra>", **shades), 1, 1
    )
    figure.add_trace(picture(grey_png(crop), side, side), 1, 2)
    grids = [row.reshape(window, window) for row in attention]
    centres = (np.arange(window) + 0.5) * token_px - 0.5
    figure.add_trace(
        go.Heatmap(
            z=grids[0].round(3), x=centres, y=centres, opacity=0.6, hovertemplate="%{z:.3f}<extra></extra>", **shades
        ),
        1,
        2,
    )
    row_line = [{"x": [-0.5, size - 0.5, size - 0.5, -0.5, -0.5], "y": _row_box(q)} for q in range(size)]
    token_box = [_token_box(q, window, token_px) for q in range(size)]
    line = {"mode": "lines", "line": {"color": VERMILION, "width": 3}, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(**row_line[0], **line), 1, 1)
    figure.add_trace(go.Scatter(**token_box[0], **line), 1, 2)
    steps = []
    for q in range(size):
        change = {
            "z": [grids[q].round(3).tolist(), None, None],
            "x": [centres.tolist(), row_line[q]["x"], token_box[q]["x"]],
            "y": [centres.tolist(), row_line[q]["y"], token_box[q]["y"]],
        }
        steps.append(("restyle", [change, [2, 3, 4]]))
    show_pixels(figure, size, size, row=1, col=1)
    show_pixels(figure, side, side, row=1, col=2)
    alt = (
        f"Left, a {size} by {size} attention matrix of one window and one head, rows are queries; right, the window on "
        "the slice, each token shaded by the attention that the marked query gives it. The slider moves the query."
    )
    sliders = [slider("query token ", [str(q) for q in range(size)], steps)]
    height = image_height(1, 2.1, widest_px=720, extra_px=120)
    return finish(figure, alt, height, sliders=sliders, showlegend=False)


def _row_box(query: int) -> list[float]:
    return [query - 0.5, query - 0.5, query + 0.5, query + 0.5, query - 0.5]


def _token_box(query: int, window: int, token_px: int) -> dict[str, list[float]]:
    top, left = (token_px * (query // window) - 0.5, token_px * (query % window) - 0.5)
    bottom, right = top + token_px, left + token_px
    return {"x": [left, right, right, left, left], "y": [top, top, bottom, bottom, top]}


def small_maps(
    values: Floats, titles: Sequence[str], alt: str, *, columns: int, unit: str, shared: bool = True
) -> go.Figure:
    """Small multiples of numeric maps with one colour bar, for what lives on a token grid.

    Args:
        values: [n, rows, cols].
        titles: One a map.
        alt: What the figure shows.
        columns: Maps in a row.
        unit: What the colour means.
        shared: One colour range for all; otherwise each from its own minimum to its maximum.
    """
    rows = -(-len(values) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(titles), horizontal_spacing=0.02, vertical_spacing=0.22 / rows
    )
    if not shared:
        span = np.ptp(values, axis=(1, 2), keepdims=True)
        values = (values - values.min(axis=(1, 2), keepdims=True)) / np.where(span > 0, span, 1)
    for i, grid in enumerate(values):
        hover = "row %{y}, col %{x}: %{z:.3g}<extra></extra>"
        where = {"row": i // columns + 1, "col": i % columns + 1}
        significant = np.array([float(f"{v:.3g}") for v in grid.ravel()]).reshape(grid.shape)
        figure.add_trace(go.Heatmap(z=significant, coloraxis="coloraxis", hovertemplate=hover), **where)
        show_pixels(figure, *grid.shape, **where)
    figure.update_annotations(font_size=12)
    bar = {"title": {"text": unit, "side": "top"}, "orientation": "h", "y": 0, "yanchor": "top", "thickness": 10}
    limits = {"cmin": float(values.min()), "cmax": float(values.max())}
    coloraxis = {"colorscale": "Cividis", "colorbar": bar | {"len": 0.7}, **limits}
    height = image_height(rows * 1.15, columns, widest_px=min(190 * columns, 760), extra_px=90)
    return finish(figure, alt, height, coloraxis=coloraxis, margin={"l": 4, "r": 4, "t": 28, "b": 8})


def window_sums(unweighted: Floats, weighted: Floats, alt: str) -> go.Figure:
    """The sum of received attention in every window, without and with gradient weights.

    Args:
        unweighted: [windows], all the same, since rows of attention sum to 1.
        weighted: [windows], relative to their mean.
        alt: What the figure shows.
    """
    figure = go.Figure()
    order = np.arange(1, len(unweighted) + 1)
    named = [("attention alone", unweighted, ORANGE, "circle"), ("times head weights", weighted, BLUE, "diamond")]
    for name, sums, colour, symbol in named:
        marker = {"color": colour, "symbol": symbol, "size": 7}
        hover = "window %{x}: %{y:.3g}<extra></extra>"
        figure.add_trace(go.Scatter(x=order, y=sums, mode="markers", marker=marker, name=name, hovertemplate=hover))
    figure.update_xaxes(title="window of the block, in reading order")
    figure.update_yaxes(title="sum in the window / mean", rangemode="tozero")
    return finish(figure, alt, "380px")

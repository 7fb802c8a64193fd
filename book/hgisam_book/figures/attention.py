"""Figures of attention: token grids and windows of a slice, attention matrices row by row, maps on token grids."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.page import (
    BLUE,
    ORANGE,
    VERMILION,
    Grey,
    apply_style,
    grey_png,
    image_height,
    picture,
    show_pixels,
    slider,
    wrapped,
)

Floats = npt.NDArray[np.floating]


def stage_views(grey: Grey, stages: Sequence[tuple[int, int, int]]) -> go.Figure:
    """A slice at the token resolution of each Swin stage, with the attention windows of W-MSA and SW-MSA.

    Args:
        grey: [H, W] grey values, H = W.
        stages: (tokens per side, window size in tokens, shift size of the SW-MSA blocks in tokens) of each stage.
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
        "One slice averaged to the token grid of each Swin stage, coarser from stage to stage. Orange lines mark the "
        f"attention windows. Slider steps: {', '.join(labels)}. In SW-MSA the windows are shifted by half a window."
    )
    height = image_height(size, size, max_width_px=460, extra_px=90)
    sliders = [slider("stage ", labels, steps)]
    return apply_style(figure, alt, height, sliders=sliders, showlegend=False, margin={"l": 4, "r": 4, "t": 4, "b": 8})


def _window_lines(size: int, token_px: float, window: int, shift: int) -> tuple[list[float | None], list[float | None]]:
    """Window borders as x and y coordinates with gaps; a shift moves them down and to the right."""
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
    """An attention matrix of one window and one head, row by row, beside its window on the slice.

    Args:
        grey: [H, W] grey values.
        attention: [N, N] attention weights after the softmax, query × key; each row sums to 1.
        corner: (row, col) of the window's first token.
        window: Window size in tokens, N = window².
        token_px: Side of a token in pixels.
    """
    size, (row0, col0) = len(attention), corner
    side = window * token_px
    top, left = row0 * token_px, col0 * token_px
    crop = grey[top : top + side, left : left + side]
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.06, subplot_titles=("query × key", "window on the slice")
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
        f"Left: the {size} by {size} attention matrix of one window and one head; rows are queries, columns are keys. "
        "Right: the window on the slice, each token shaded by the attention weight of the marked query. The slider "
        "selects the query."
    )
    sliders = [slider("query token ", [str(q) for q in range(size)], steps)]
    height = image_height(1, 2.1, max_width_px=720, extra_px=120)
    return apply_style(figure, alt, height, sliders=sliders, showlegend=False)


def _row_box(query: int) -> list[float]:
    return [query - 0.5, query - 0.5, query + 0.5, query + 0.5, query - 0.5]


def _token_box(query: int, window: int, token_px: int) -> dict[str, list[float]]:
    top, left = (token_px * (query // window) - 0.5, token_px * (query % window) - 0.5)
    bottom, right = top + token_px, left + token_px
    return {"x": [left, right, right, left, left], "y": [top, top, bottom, bottom, top]}


def small_multiples(
    values: Floats, titles: Sequence[str], alt: str, *, columns: int, unit: str, shared: bool = True
) -> go.Figure:
    """Small multiples of maps on token grids, with one colour bar.

    Args:
        values: [n, rows, cols].
        titles: One per map.
        alt: Alternative text.
        columns: Maps per row.
        unit: Title of the colour bar.
        shared: One colour range for all maps; otherwise each map is scaled from its minimum to its maximum.
    """
    rows = -(-len(values) // columns)
    titles = [wrapped(title, columns) for title in titles]
    lines = 1 + max(title.count("<br>") for title in titles)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, horizontal_spacing=0.02,
        vertical_spacing=(0.12 + 0.1 * lines) / rows,
    )  # fmt: skip
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
    height = image_height(rows * (1.05 + 0.1 * lines), columns, max_width_px=min(190 * columns, 760), extra_px=90)
    return apply_style(figure, alt, height, coloraxis=coloraxis, margin={"l": 4, "r": 4, "t": 12 + 16 * lines, "b": 8})


def window_sums(unweighted: Floats, weighted: Floats, alt: str) -> go.Figure:
    """Attention received per window, summed over its tokens, without and with the gradient weights of the heads.

    Args:
        unweighted: [windows], all equal, because each row of an attention matrix sums to 1.
        weighted: [windows], relative to their mean.
        alt: Alternative text.
    """
    figure = go.Figure()
    order = np.arange(1, len(unweighted) + 1)
    named = [("unweighted attention", unweighted, ORANGE, "circle"), ("weighted by head", weighted, BLUE, "diamond")]
    for name, sums, colour, symbol in named:
        marker = {"color": colour, "symbol": symbol, "size": 7}
        hover = "window %{x}: %{y:.3g}<extra></extra>"
        figure.add_trace(go.Scatter(x=order, y=sums, mode="markers", marker=marker, name=name, hovertemplate=hover))
    figure.update_xaxes(title="window of the block, row by row")
    figure.update_yaxes(title="sum per window / mean", rangemode="tozero")
    return apply_style(figure, alt, "380px")

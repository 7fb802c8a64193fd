"""Geometry of the anatomy plates: curves of a head, and a sheet that takes shapes and labels. Lengths are in cm."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from hgisam_book.figures.page import apply_style, image_height

Points = npt.NDArray[np.float64]
Label = tuple[str, tuple[float, float]]  # text, and the place that it points at

LINE = "#6c6c6c"  # readable on bone, on brain and on both themes
HALF_WIDTH_CM, HALF_HEIGHT_CM = 15.0, 10.6  # of a plate with its labels
LABEL_CM = 8.0  # distance of the labels from the midline
ROW_CM = 2.5  # least distance between two labels


def curve(angles: Points, inset: Points | float, half: tuple[float, float]) -> Points:
    """Points [n, 2] of a head at an inset from its surface.

    Args:
        angles: [n] degrees from the top of the plate, clockwise.
        inset: [n] or one, cm.
        half: Half the width and half the height of the head, cm.
    """
    t = np.deg2rad(angles)
    return np.column_stack([(half[0] - inset) * np.sin(t) * (1 - 0.05 * np.cos(t)), (half[1] - inset) * np.cos(t)])


def ellipse(x: float, y: float, a: float, b: float, tilt: float = 0) -> Points:
    """Ellipse with the half axes a and b, cm, tilted by `tilt` degrees."""
    t, turn = np.linspace(0, 2 * np.pi, 41), np.deg2rad(tilt)
    u, v = a * np.cos(t), b * np.sin(t)
    return np.column_stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)])


def mirrored(points: Points) -> Points:
    """The same structure on the other side of the midline."""
    return np.column_stack([-points[:, 0], points[:, 1]])


def smooth(corners: Sequence[tuple[float, float]]) -> Points:
    """Round area with the given corners, which are cut three times (Chaikin)."""
    points = np.array(corners, dtype=float)
    for _ in range(3):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def shrunk(points: Points, factor: float) -> Points:
    """An area made smaller around its center."""
    center: Points = points.mean(axis=0)
    return center + factor * (points - center)


def open_curve(corners: Points) -> Points:
    """Round line from the first corner to the last."""
    points = corners
    for _ in range(3):
        inner = np.stack([0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]], axis=1)
        points = np.vstack([points[:1], inner.reshape(-1, 2), points[-1:]])
    return points


def bulge(angles: Points, first: float, last: float, height: float, power: float) -> Points:
    """Thickness of a collection along the skull, cm: `height` in its middle, 0 at both ends; small powers are flat."""
    thickness: Points = height * np.sin(np.pi * np.clip((angles - first) / (last - first), 0, 1)) ** power
    return thickness


def folds(angles: Points, at: Sequence[float], depth: float, width: float) -> Points:
    """Depth of the sulci at each angle, cm; each is `width` degrees wide."""
    deep: Points = np.sum([depth * np.exp(-(((angles - a) / width) ** 2)) for a in at], axis=0)
    return deep


class Sheet:
    """A plate in the making: shapes, then labels that point at them."""

    def __init__(self) -> None:
        self.figure = go.Figure()

    def fill(self, points: Points, colour: str, edge: str | None = None, width: float = 1) -> None:
        """Fill an area [n, 2]."""
        self._path(points, fillcolor=colour, line={"color": edge or colour, "width": width if edge else 0}, closed=True)

    def line(self, points: Points, colour: str, width: float) -> None:
        """Line through [n, 2]."""
        self._path(points, fillcolor="rgba(0,0,0,0)", line={"color": colour, "width": width}, closed=False)

    def both(self, points: Points, colour: str, edge: str | None = None) -> None:
        """Fill an area on both sides."""
        self.fill(points, colour, edge)
        self.fill(mirrored(points), colour, edge)

    def suture(self, points: Points) -> None:
        """Zigzag through the bone from [0] to [1]."""
        start, end = points
        across = np.array([-(end - start)[1], (end - start)[0]]) * 0.28
        steps = np.linspace(0, 1, 7)[:, None]
        zigzag = start + steps * (end - start) + across * np.array([0, 1, -1, 1, -1, 1, 0])[:, None]
        self.line(zigzag, "#3a3a3a", 2)

    def _path(self, points: Points, *, closed: bool, **look: object) -> None:
        path = "M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in points) + "Z" * closed
        self.figure.add_shape(type="path", path=path, layer="below", **look)

    def label(self, labels: Sequence[Label], side: Literal[-1, 1], colours: Mapping[str, str]) -> None:
        """Write labels in a column beside the head, from top to bottom, as far apart as they need.

        Args:
            labels: In their order from top to bottom.
            side: -1 for the left of the plate, 1 for the right.
            colours: Text → colour of a square before it.
        """
        heights, inner = np.array([at[1] for _, at in labels]), "left" if side > 0 else "right"
        limit = HALF_HEIGHT_CM - 0.6 * ROW_CM
        heights[0] = min(heights[0], limit)
        for n in range(1, len(heights)):
            heights[n] = min(heights[n], heights[n - 1] - ROW_CM)
        heights[-1] = max(heights[-1], -limit)
        for n in range(len(heights) - 2, -1, -1):
            heights[n] = max(heights[n], heights[n + 1] + ROW_CM)
        for (text, (x, y)), height in zip(labels, heights, strict=True):
            square = f'<span style="color:{colours[text]}">■</span> ' if text in colours else ""
            self.figure.add_annotation(
                x=x, y=y, ax=side * LABEL_CM, ay=height, axref="x", ayref="y", text=square + text, align=inner,
                xanchor=inner, showarrow=True, arrowhead=6, arrowsize=0.8, arrowwidth=1.2,
                arrowcolor=LINE, font_size=11,
            )  # fmt: skip

    def finish(self, alt: str) -> go.Figure:
        """The figure, with axes in cm that are not shown."""
        self.figure.update_xaxes(visible=False, range=[-HALF_WIDTH_CM, HALF_WIDTH_CM], fixedrange=True)
        self.figure.update_yaxes(
            visible=False, range=[-HALF_HEIGHT_CM, HALF_HEIGHT_CM], fixedrange=True, scaleanchor="x"
        )
        height = image_height(HALF_HEIGHT_CM, HALF_WIDTH_CM, max_width_px=700, extra_px=0)
        return apply_style(self.figure, alt, height, margin={"l": 0, "r": 0, "t": 0, "b": 0}, showlegend=False)

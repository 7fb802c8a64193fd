"""Figures from inside other systems."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hgisam_book.figures.page import BLUE, VERMILION, apply_style
from hgisam_book.figures.price import GREY

Exam = tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]  # attention [n], and whether the slice bleeds [n]


def slice_attention(exams: Mapping[str, Exam]) -> go.Figure:
    """Attention of an exam's slices from the neck to the vertex, one row of bars per exam; bleeding slices in red.

    Args:
        exams: Title → attention and true labels of its slices.
    """
    figure = make_subplots(rows=len(exams), subplot_titles=list(exams), vertical_spacing=0.14)
    told: list[str] = []
    for row, (title, (attention, bleeds)) in enumerate(exams.items(), start=1):
        numbers = np.arange(1, len(attention) + 1)
        for name, mine, colour in (("bleeds", bleeds, VERMILION), ("other", ~bleeds, BLUE)):
            bars = go.Bar(x=numbers[mine], y=attention[mine], marker_color=colour, name=name, legendgroup=name)
            figure.add_trace(bars.update(showlegend=row == 1), row=row, col=1)
        figure.add_hline(1 / len(attention), line_dash="dot", line_color=GREY, row=row, col=1)
        told.append(f"{title}: {attention[bleeds].sum():.0%} of the attention on {bleeds.sum()} bleeding slices")
    figure.update_yaxes(range=[0, 1], title="attention")
    figure.update_xaxes(title="slice, from the neck", row=len(exams), col=1)
    alt = "Attention of the slices of exams. " + "; ".join(told) + "."
    return apply_style(figure, alt, f"{120 * len(exams) + 120}px", barmode="overlay")

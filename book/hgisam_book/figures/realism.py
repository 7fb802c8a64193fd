"""Figures of phantoms beside real heads."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from hgisam_book.figures.charts import COLOURS, DASHES, SYMBOLS
from hgisam_book.figures.page import apply_style


def rim_profiles(
    phantoms: Mapping[str, pd.DataFrame], real: Mapping[str, tuple[Sequence[float], Sequence[float]]], alt: str
) -> go.Figure:
    """Mean HU by distance from bone: phantoms as lines with a band of their spread, real heads as dashed lines.

    Args:
        phantoms: Name → columns mm, mean, low, high; rows without a mean are left out.
        real: Name → mm and HU.
        alt: Alternative text.
    """
    figure = go.Figure()
    for (name, table), colour in zip(phantoms.items(), COLOURS, strict=False):
        rows = table.dropna()
        x, fill = rows["mm"].tolist(), "rgba({},{},{},0.15)".format(*hex_to_rgb(colour))
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_trace(go.Scatter(x=x, y=rows["low"].round(1), **edge))
        figure.add_trace(go.Scatter(x=x, y=rows["high"].round(1), fill="tonexty", fillcolor=fill, **edge))
        line = {"color": colour, "width": 2.5}
        figure.add_trace(go.Scatter(x=x, y=rows["mean"].round(1), mode="lines+markers", line=line, name=name))
    for number, (name, (mm, hu)) in enumerate(real.items()):
        look = {"color": COLOURS[-1 - number], "dash": DASHES[1 + number % 3]}
        marker = {"symbol": SYMBOLS[1 + number], "size": 8}
        figure.add_trace(go.Scatter(x=mm, y=hu, mode="lines+markers", line=look, marker=marker, name=name))
    figure.update_xaxes(title="distance from bone in mm")
    figure.update_yaxes(title="mean HU")
    return apply_style(figure, alt, "460px", margin={"l": 8, "r": 8, "t": 16, "b": 96})

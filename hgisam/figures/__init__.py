"""Figures of the book: plotly, one function a figure, from plain arrays and data frames; no model is imported."""

from hgisam.figures.attention import attention_rows, small_maps, stage_views, window_sums
from hgisam.figures.charts import (
    calibration,
    counts,
    distributions,
    hu_histograms,
    intervals,
    roc,
    scatter,
    score_histogram,
    threshold_curves,
    training_curves,
)
from hgisam.figures.explorer import Panels, map_explorer
from hgisam.figures.page import HU_METHODS, METHOD_NAMES, SUBTYPE_COLOURS, TRUTH, finish, shrink, use_book_renderer
from hgisam.figures.slices import contact_sheet, slice_viewer, window_slider

__all__ = [
    "HU_METHODS",
    "METHOD_NAMES",
    "SUBTYPE_COLOURS",
    "TRUTH",
    "Panels",
    "attention_rows",
    "calibration",
    "contact_sheet",
    "counts",
    "distributions",
    "finish",
    "hu_histograms",
    "intervals",
    "map_explorer",
    "roc",
    "scatter",
    "score_histogram",
    "shrink",
    "slice_viewer",
    "small_maps",
    "stage_views",
    "threshold_curves",
    "training_curves",
    "use_book_renderer",
    "window_slider",
    "window_sums",
]

"""Figures of the book: plotly, one function a figure, from plain arrays and data frames; no model is imported."""

from hgisam_book.figures.attention import attention_rows, small_maps, stage_views, window_sums
from hgisam_book.figures.baselines import fold_curves, label_budget
from hgisam_book.figures.charts import (
    counts,
    density_threshold,
    distributions,
    hu_histograms,
    intervals,
    scatter,
    threshold_curves,
)
from hgisam_book.figures.detection import (
    calibration,
    confusion_by_type,
    predicted_types,
    roc,
    score_histogram,
    sensitivity_by_size,
)
from hgisam_book.figures.explorer import Panels, map_explorer
from hgisam_book.figures.page import HU_METHODS, METHOD_NAMES, SUBTYPE_COLOURS, TRUTH, finish, shrink, use_book_renderer
from hgisam_book.figures.sanity import randomisation_steps, removal_curves
from hgisam_book.figures.slices import contact_sheet, slice_viewer, window_slider
from hgisam_book.figures.training import metric_over_time, training_curves

__all__ = [
    "HU_METHODS",
    "METHOD_NAMES",
    "SUBTYPE_COLOURS",
    "TRUTH",
    "Panels",
    "attention_rows",
    "calibration",
    "confusion_by_type",
    "contact_sheet",
    "counts",
    "density_threshold",
    "distributions",
    "finish",
    "fold_curves",
    "hu_histograms",
    "intervals",
    "label_budget",
    "map_explorer",
    "metric_over_time",
    "predicted_types",
    "randomisation_steps",
    "removal_curves",
    "roc",
    "scatter",
    "score_histogram",
    "sensitivity_by_size",
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

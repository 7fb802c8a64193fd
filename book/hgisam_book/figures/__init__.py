"""Plotly figures of the book: one function per figure, from plain arrays and data frames, without any model.

`page` holds the shared style, the renderer and the helpers for images. `slices` and `explorer` show slices, masks and
maps. `charts` has the general charts, `anatomy` the plates of the head, whose geometry is in `plate`. `attention`,
`training`, `detection`, `baselines`, `price`, `systems`, `realism` and `sanity` have the figures of one topic each.
"""

from hgisam_book.figures.anatomy import anatomy_plate
from hgisam_book.figures.attention import attention_rows, small_multiples, stage_views, window_sums
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
from hgisam_book.figures.page import (
    HU_METHODS,
    METHOD_NAMES,
    SUBTYPE_COLOURS,
    TRUTH,
    apply_style,
    by_rank,
    downsample,
    use_book_renderer,
)
from hgisam_book.figures.price import ladder_name, price_ladder
from hgisam_book.figures.realism import rim_profiles
from hgisam_book.figures.sanity import deletion_insertion_curves, explanation_quality, randomization_steps
from hgisam_book.figures.slices import contact_sheet, slice_viewer, window_slider
from hgisam_book.figures.systems import slice_attention
from hgisam_book.figures.training import metric_over_time, training_curves

__all__ = [
    "HU_METHODS",
    "METHOD_NAMES",
    "SUBTYPE_COLOURS",
    "TRUTH",
    "Panels",
    "anatomy_plate",
    "apply_style",
    "attention_rows",
    "by_rank",
    "calibration",
    "confusion_by_type",
    "contact_sheet",
    "counts",
    "deletion_insertion_curves",
    "density_threshold",
    "distributions",
    "downsample",
    "explanation_quality",
    "fold_curves",
    "hu_histograms",
    "intervals",
    "label_budget",
    "ladder_name",
    "map_explorer",
    "metric_over_time",
    "predicted_types",
    "price_ladder",
    "randomization_steps",
    "rim_profiles",
    "roc",
    "scatter",
    "score_histogram",
    "sensitivity_by_size",
    "slice_attention",
    "slice_viewer",
    "small_multiples",
    "stage_views",
    "threshold_curves",
    "training_curves",
    "use_book_renderer",
    "window_slider",
    "window_sums",
]

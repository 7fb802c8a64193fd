"""From score maps to figures: thresholds, masks, metrics per slice and scan, localization, intervals.

`score_maps` reads what methods leave to be thresholded, `masks` applies thresholds, `thresholds` chooses each on another
fold, `measurements` and `surface_distance` measure, `localization` scores boxes, `metrics` and `summary` aggregate over
patients, `outputs` writes all of it.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "scipy", "skimage", "sklearn", "zarr")

if TYPE_CHECKING:
    from hgisam.evaluation.localization import localize as localize
    from hgisam.evaluation.masks import apply_threshold as apply_threshold
    from hgisam.evaluation.masks import dice_curve as dice_curve
    from hgisam.evaluation.measurements import measure_scans as measure_scans
    from hgisam.evaluation.metrics import bootstrap_mean as bootstrap_mean
    from hgisam.evaluation.metrics import dice as dice
    from hgisam.evaluation.metrics import iou as iou
    from hgisam.evaluation.score_maps import read_score_maps as read_score_maps
    from hgisam.evaluation.summary import summarize as summarize
    from hgisam.evaluation.thresholds import choose_thresholds as choose_thresholds
    from hgisam.evaluation.thresholds import thresholds_by_slice as thresholds_by_slice

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

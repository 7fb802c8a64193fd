"""From score maps to results: thresholds, masks, metrics per slice and scan, localization, confidence intervals.

`score_maps` reads maps, `masks` applies thresholds, `thresholds` chooses them by cross-validation, `measurements` (with
`scans`, `surface_distance`) and `localization` measure, `metrics` and `summary` aggregate, `outputs` writes.
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

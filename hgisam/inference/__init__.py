"""Trained networks on slices: maps, scores and masks.

`predictor` reads slices with a trained network, `extraction` streams maps of a whole set to disk, `external` validates
a finished run on other data, `tiling` maps what exceeds the memory.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "zarr", "monai")

if TYPE_CHECKING:
    from hgisam.inference.external import evaluate_external as evaluate_external
    from hgisam.inference.external import map_external as map_external
    from hgisam.inference.extraction import extract_maps as extract_maps
    from hgisam.inference.predictor import SlicePredictor as SlicePredictor
    from hgisam.inference.tiling import sliding_windows as sliding_windows

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

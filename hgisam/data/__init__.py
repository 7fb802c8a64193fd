"""The prepared data set, and the way from its slices to what a network sees.

`prepared` is the contract with `data_prep`, `arrays` its slices on disk, `batches` reads and samples them, `preprocess`
and `windows` turn HU into channels, `augmentation` and `crop` change training slices. Knows no model.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "pydantic", "tensorstore", "zarr")

if TYPE_CHECKING:
    from hgisam.data.batches import Batch as Batch
    from hgisam.data.batches import Batches as Batches
    from hgisam.data.batches import SliceDataset as SliceDataset
    from hgisam.data.batches import batch_loader as batch_loader
    from hgisam.data.prepared import LABELS as LABELS
    from hgisam.data.prepared import SUBTYPES as SUBTYPES
    from hgisam.data.prepared import PreparedDataset as PreparedDataset
    from hgisam.data.prepared import by_fold as by_fold
    from hgisam.data.prepared import open_prepared as open_prepared
    from hgisam.data.prepared import write_prepared as write_prepared
    from hgisam.data.preprocess import Preprocessor as Preprocessor
    from hgisam.data.windows import apply_windows as apply_windows

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

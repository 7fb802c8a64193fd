"""The prepared data set, and the steps from its slices to the input of a network.

`prepared` is the contract with `data_prep`, `arrays` its slices on disk, `batches` samples and loads them, `preprocess`
and `windows` turn HU into channels, `augmentation` and `crop` change training slices. Models are unknown here.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "pydantic", "tensorstore", "zarr")

if TYPE_CHECKING:
    from hgisam.data.batches import Batch as Batch
    from hgisam.data.batches import Batches as Batches
    from hgisam.data.batches import SliceDataset as SliceDataset
    from hgisam.data.batches import batch_loader as batch_loader
    from hgisam.data.labels import LABELS as LABELS
    from hgisam.data.labels import SUBTYPES as SUBTYPES
    from hgisam.data.prepared import PreparedDataset as PreparedDataset
    from hgisam.data.prepared import by_fold as by_fold
    from hgisam.data.prepared import open_prepared as open_prepared
    from hgisam.data.preprocess import Preprocessor as Preprocessor
    from hgisam.data.windows import apply_windows as apply_windows

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

"""Raw head CT studies, real or synthetic, to the prepared data set that `hgisam` reads. Knows no torch.

`rsna`, `ct_ich`, `bhsd`, `instance`, `cq500` and `folder` read one layout of raw studies each; `dicom`, `identity`,
`nifti`, `scan_mask_pairs` and `raw_folder` hold what readers share. `study` resamples one study to the prepared grid
(`volume`, `grid`, `brain`, `imported_brain_masks`). `preparation` makes the data set (`parallel`, `output_folder`,
`privacy`, `split`, `report`, `findings`). `datasets` describes the public data sets, `mask_agreement` checks brain
masks, `phantom` makes synthetic studies.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("prep", "dask", "distributed", "nibabel", "numcodecs", "pandas", "pydicom", "scipy", "tqdm")

if TYPE_CHECKING:
    from data_prep.brain import brain_mask as brain_mask
    from data_prep.datasets import load_datasets as load_datasets
    from data_prep.mask_agreement import brain_agreement as brain_agreement
    from data_prep.phantom.cohort import write_phantom as write_phantom
    from data_prep.phantom.patient import make_patient as make_patient
    from data_prep.preparation import prepare as prepare

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

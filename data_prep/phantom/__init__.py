"""The phantom: synthetic head CT with real anatomy, masks and labels, which anyone may use.

`cohort` writes patients to disk in the layouts of public data sets (`layouts`), `patient` makes one of them. Anatomy:
`template`, `anatomy`, `face`, on the grid of `painting_grid`. Disease: `pathology`, `bleeds`, `confounders`, painted on
a `canvas`. Imaging: `pose`, `scanner`, `acquisition`.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("prep", "nibabel", "nilearn", "pydicom", "scipy", "threadpoolctl")

if TYPE_CHECKING:
    from data_prep.phantom.cohort import write_phantom as write_phantom
    from data_prep.phantom.patient import PhantomPatient as PhantomPatient
    from data_prep.phantom.patient import make_patient as make_patient

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

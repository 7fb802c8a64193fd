"""HGI-SAM: weakly supervised segmentation of intracranial hemorrhage from a Swin transformer's own attention."""

from hgisam.errors import InputError
from hgisam.prepared import open_prepared
from hgisam.profile import load_profile

__all__ = ["InputError", "load_profile", "open_prepared"]
__version__ = "0.1.0"

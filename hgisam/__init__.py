"""HGI-SAM: weakly supervised segmentation of intracranial hemorrhage from a Swin transformer's own attention."""

from importlib import import_module
from typing import Any

from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

# imported when asked for, since the rest of the package needs no torch
LATER = dict.fromkeys(("grad_cam", "hgi_sam", "swin_sam"), "hgisam.maps") | {"load_pretrained": "hgisam.models.shipped"}

__all__ = ["InputError", "grad_cam", "hgi_sam", "load_pretrained", "load_profile", "open_prepared", "swin_sam"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in LATER:
        return getattr(import_module(LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""HGI-SAM: weakly supervised segmentation of intracranial hemorrhage from a Swin transformer's own attention.

Maps of any Swin need the core dependencies alone; training, inference and evaluation the extra [train].
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports

if TYPE_CHECKING:
    from hgisam.config import load_profile as load_profile
    from hgisam.data import open_prepared as open_prepared
    from hgisam.errors import InputError as InputError
    from hgisam.maps import grad_cam as grad_cam
    from hgisam.maps import hgi_sam as hgi_sam
    from hgisam.maps import swin_sam as swin_sam
    from hgisam.models import load_pretrained as load_pretrained
    from hgisam_scans.segmentation import segment as segment

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

"""Maps: where does a classifier see the bleeding?

Every method has one signature, `method(model, images, target, *, ...) -> maps`: images [B, C, H, W], `target` a class,
maps [B, H, W] in [0, 1], float32. Adding one is a file here and a line in `METHODS`.
"""

from collections.abc import Callable

from torch import Tensor

from hgisam.maps.grad_cam import grad_cam
from hgisam.maps.hgi_sam import hgi_sam
from hgisam.maps.swin_sam import swin_sam

METHODS: dict[str, Callable[..., Tensor]] = {"hgi_sam": hgi_sam, "swin_sam": swin_sam, "grad_cam": grad_cam}

__all__ = ["METHODS", "grad_cam", "hgi_sam", "swin_sam"]

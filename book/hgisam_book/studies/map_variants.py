"""Changes to a map method, each a method again: other last steps, more looks at a slice, another class or brain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from hgisam.attention.swin import pair
from hgisam.inference.extraction import Method
from hgisam.maps.combine import combine
from hgisam.maps.hgi_sam import infused_grids
from hgisam_book.studies.method_comparison import Brain, Maps

ERODED_MM = 2.0
ZOOMS = (0.87, 1.0, 1.15)  # sizes that training showed


def composed(*, gradient_at: str, stages: Sequence[int], recipe: str = "corrected", **how: Any) -> Method:
    """HGI-SAM with its last steps made in another way: `how` goes to `combine`."""

    def method(model: nn.Module, images: Tensor, target: int) -> Tensor:
        grids = infused_grids(model, images, target, gradient_at=gradient_at, stages=stages, recipe=recipe)
        return combine(grids, pair(images.shape[2:]), None, **how)

    return method


def mirrored(method: Method) -> Method:
    """Mean of the map and the flipped-back map of the slice mirrored left to right."""

    def both(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return (method(model, images, target) + method(model, images.flip(-1), target).flip(-1)) / 2

    return both


def resized(method: Method, zooms: Sequence[float] = ZOOMS) -> Method:
    """Mean of the maps of the slice at several sizes, each brought back."""

    def mean(model: nn.Module, images: Tensor, target: int) -> Tensor:
        maps = [zoom(method(model, zoom(images, by), target)[:, None], 1 / by)[:, 0] for by in zooms]
        return torch.stack(maps).mean(dim=0)

    return mean


def zoom(images: Tensor, by: float) -> Tensor:
    """[B, C, H, W] magnified about its centre, cut or padded with 0 to the size that it had."""
    theta = torch.eye(2, 3, device=images.device)[None].expand(len(images), 2, 3) / by
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def fixed(method: Method, threshold: float) -> Method:
    """The mask at one threshold as a map of 0 and 1: whatever is chosen afterwards cuts it at the same place."""

    def mask(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return (method(model, images, target) >= threshold).float()

    return mask


def of_predicted_class(method: Method) -> Method:
    """The map of the class with the largest logit, slice by slice, instead of the class that was asked for."""

    def explain(model: nn.Module, images: Tensor, target: int) -> Tensor:
        with torch.no_grad():
            said = model(images).argmax(dim=1)  # [B]
        maps = torch.zeros_like(images[:, 0], dtype=torch.float32)
        for label in said.unique().tolist():
            maps[said == label] = method(model, images[said == label], label)
        return maps

    return explain


def whole_slice(maps: Maps, brain: Brain) -> tuple[Maps, Brain]:
    """No brain mask."""
    return maps, np.ones_like(brain)


def within_brain(maps: Maps, brain: Brain) -> tuple[Maps, Brain]:
    """Each map stretched so that its largest value within the brain is 1, as `hgi_sam` does that is given the brain."""
    inside = np.where(brain > 0, maps, 0)
    most = inside.max(axis=(1, 2), keepdims=True)
    return np.divide(inside, most, out=np.zeros_like(inside), where=most > 0), brain


def eroded_brain(maps: Maps, brain: Brain, pixel_mm: float) -> tuple[Maps, Brain]:
    """The brain without its outermost `ERODED_MM`."""
    deep = [distance_transform_edt(inside > 0, sampling=pixel_mm) > ERODED_MM for inside in brain]
    return maps, np.stack(deep).astype(brain.dtype)

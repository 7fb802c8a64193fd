"""Changes to a map method, each a method again: other last steps, more looks at a slice, another class or brain."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from hgisam.attention.swin import BlockGeometry, pair
from hgisam.errors import check_choice
from hgisam.inference.predictor import Method
from hgisam.maps.combine import min_max, to_token_grid, to_unit_range, upsample
from hgisam.maps.hgi_sam import infused_grids
from hgisam_book.studies.method_comparison import Brain, Maps

Grid = Callable[[Tensor, BlockGeometry], Tensor]
Join = Callable[[Sequence[Tensor]], Tensor]
ERODED_MM = 2.0
ZOOMS = (0.87, 1.0, 1.15)  # sizes that training showed


def product(maps: Sequence[Tensor]) -> Tensor:
    """Element-wise product of maps of one grid: high where all are."""
    return torch.stack(list(maps)).prod(dim=0)


def average(maps: Sequence[Tensor]) -> Tensor:
    """Element-wise mean of maps of one grid."""
    return torch.stack(list(maps)).mean(dim=0)


def batch_min_max(maps: Tensor) -> Tensor:
    """Min-max normalization of [B, rows, cols] over the batch: all images share their extremes."""
    return min_max(maps.flatten(0, 1)[None]).view_as(maps)


SCALES: dict[str, Callable[[Tensor], Tensor]] = {"image": min_max, "batch": batch_min_max, "none": lambda maps: maps}


def composed(
    *,
    gradient_at: str,
    stages: Sequence[int],
    grid: Grid = to_token_grid,
    blocks: Join = product,
    join: Join = product,
    scale: str = "image",
) -> Method:
    """HGI-SAM with other last steps.

    Args:
        gradient_at, stages, grid: As in `infused_grids`.
        blocks: Joins the two blocks of a pair (W-MSA and SW-MSA): `product` or `average`.
        join: Joins the stages, likewise.
        scale: What is scaled to [0, 1] before the stages are joined: each stage of each "image"; each stage of the
            whole "batch" together, as the released code's min-max over the tensor does, also at the end; or "none".
    """

    check_choice("scale", scale, list(SCALES))

    def method(model: nn.Module, images: Tensor, target: int) -> Tensor:
        size = pair(images.shape[2:])
        grids = infused_grids(model, images, target, gradient_at=gradient_at, stages=stages, grid=grid)
        extents = {block.stage: block.extent for block in grids}
        resized = []
        for stage, extent in extents.items():
            own = [values for block, values in grids.items() if block.stage == stage]
            values = average([blocks(own[i : i + 2]) for i in range(0, len(own), 2)])
            resized.append(upsample(SCALES[scale](values), size, extent))
        joined = join(resized)
        return batch_min_max(joined).float() if scale == "batch" else to_unit_range(joined, None)

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

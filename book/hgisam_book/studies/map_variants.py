"""Variants of map methods: other fusion of blocks and stages, test-time augmentation, another class or brain mask."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from hgisam.attention.swin import BlockGeometry, spatial_size
from hgisam.errors import check_choice
from hgisam.inference.predictor import Method
from hgisam.maps.combine import min_max, to_token_grid, to_unit_range, upsample
from hgisam.maps.hgi_sam import infused_grids
from hgisam_book.studies.method_comparison import Brain, Maps

Grid = Callable[[Tensor, BlockGeometry], Tensor]
Join = Callable[[Sequence[Tensor]], Tensor]
ERODED_MM = 2.0
BLUR_KERNEL_PX, BLUR_PX = 9, 2.0  # side of the kernel and standard deviation, of the early released code
ZOOMS = (0.87, 1.0, 1.15)  # within the range of the augmentation in training


def product(maps: Sequence[Tensor]) -> Tensor:
    """Element-wise product of maps of one grid: high where all are high."""
    return torch.stack(list(maps)).prod(dim=0)


def average(maps: Sequence[Tensor]) -> Tensor:
    """Element-wise mean of maps of one grid."""
    return torch.stack(list(maps)).mean(dim=0)


def batch_min_max(maps: Tensor) -> Tensor:
    """Min-max scaling of [B, rows, cols] over the whole batch: all images share minimum and maximum."""
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
    """HGI-SAM with another fusion of blocks and stages.

    Args:
        gradient_at, stages, grid: As in `infused_grids`.
        blocks: Fusion of the two blocks of a pair (W-MSA and SW-MSA): `product` or `average`.
        join: Fusion of the stages, likewise.
        scale: Min-max scaling of each stage before their fusion: per "image"; over the whole "batch", like the min-max
            over the tensor in the released code, also at the end; or "none".
    """

    check_choice("scale", scale, list(SCALES))

    def method(model: nn.Module, images: Tensor, target: int) -> Tensor:
        size = spatial_size(images)
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


def with_flip(method: Method) -> Method:
    """Test-time augmentation: mean of the map and the map of the slice mirrored left to right, flipped back."""

    def both(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return (method(model, images, target) + method(model, images.flip(-1), target).flip(-1)) / 2

    return both


def multi_scale(method: Method, zooms: Sequence[float] = ZOOMS) -> Method:
    """Test-time augmentation: mean of the maps of the slice at several scales, each scaled back."""

    def mean(model: nn.Module, images: Tensor, target: int) -> Tensor:
        maps = [zoom(method(model, zoom(images, by), target)[:, None], 1 / by)[:, 0] for by in zooms]
        return torch.stack(maps).mean(dim=0)

    return mean


def zoom(images: Tensor, by: float) -> Tensor:
    """[B, C, H, W] magnified about its center, cropped or padded with 0 to its size."""
    theta = torch.eye(2, 3, device=images.device)[None].expand(len(images), 2, 3) / by
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def times_blurred_window(method: Method) -> Method:
    """The map times the blurred first window of the slice, scaled to 0 to 1: bright tissue weighs more.

    Source: early versions of the released code of Rasoulian 2023, with the brain window; the release has the brain mask
        in its place.
    """

    def weighted(model: nn.Module, images: Tensor, target: int) -> Tensor:
        window, kernel = min_max(images[:, 0])[:, None], [BLUR_KERNEL_PX, BLUR_KERNEL_PX]
        blurred: Tensor = gaussian_blur(window, kernel, [BLUR_PX, BLUR_PX])
        return method(model, images, target) * blurred[:, 0]

    return weighted


def at_threshold(method: Method, threshold: float) -> Method:
    """The mask at one threshold as a map of 0 and 1, which any later threshold in (0, 1] leaves as it is."""

    def mask(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return (method(model, images, target) >= threshold).float()

    return mask


def of_predicted_class(method: Method) -> Method:
    """The map of the predicted class, the one with the largest logit, of each slice instead of the target class."""

    def explain(model: nn.Module, images: Tensor, target: int) -> Tensor:
        with torch.no_grad():
            predicted = model(images).argmax(dim=1)  # [B]
        maps = torch.zeros_like(images[:, 0], dtype=torch.float32)
        for label in predicted.unique().tolist():
            maps[predicted == label] = method(model, images[predicted == label], label)
        return maps

    return explain


def whole_slice(maps: Maps, brain: Brain) -> tuple[Maps, Brain]:
    """Maps without a brain mask."""
    return maps, np.ones_like(brain)


def within_brain(maps: Maps, brain: Brain) -> tuple[Maps, Brain]:
    """Maps scaled so that the maximum within the brain is 1, as in `hgi_sam` with a brain mask."""
    inside = np.where(brain > 0, maps, 0)
    most = inside.max(axis=(1, 2), keepdims=True)
    return np.divide(inside, most, out=np.zeros_like(inside), where=most > 0), brain


def eroded_brain(maps: Maps, brain: Brain, pixel_mm: float) -> tuple[Maps, Brain]:
    """Maps, and the brain mask eroded by `ERODED_MM`."""
    deep = [distance_transform_edt(inside > 0, sampling=pixel_mm) > ERODED_MM for inside in brain]
    return maps, np.stack(deep).astype(brain.dtype)

"""Maps of volumes and images that are larger than the memory or than the Swin: sliding windows with overlap."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from hgisam.attention.hooks import forward_hooks
from hgisam.attention.inspection import Logit, check_images
from hgisam.errors import InputError
from hgisam.maps.combine import to_unit_range


def sliding_windows(
    method: Callable[..., Tensor],
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    size: Sequence[int],
    overlap: float = 0.5,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    probability: Callable[[Tensor], Tensor] = torch.sigmoid,
    **options: Any,
) -> Tensor:
    """Map by any method, window by window; each window's map counts with its probability of the target class.

    A method scales each map to [0, 1], also where nothing bleeds. So the model's own probability of the window decides
    how strong it is beside others. Overlapping windows are averaged, the center of a window weighing most.

    Args:
        method: Of `hgisam.maps`.
        model, target, brain, logit: As in `hgi_sam`.
        images: [B, C, H, W] or [B, C, D, H, W]; may be in the memory of the CPU while the model is on a GPU.
        size: Of a window, per axis: what the Swin was trained with; a longer one is cut to the image.
        overlap: Share of a window that the next one covers too, from 0 to below 1.
        probability: From the target logit [B] to [0, 1].
        options: Of the method.

    Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> from hgisam.maps import swin_sam
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> sliding_windows(swin_sam, model, torch.randn(1, 3, 96, 128), 0, size=(64, 64)).shape
        torch.Size([1, 96, 128])
    """
    check_images(images)
    whole = tuple(images.shape[2:])
    if len(size) != len(whole) or min(size) < 1 or not 0 <= overlap < 1:
        expected = f"{len(whole)} sizes ≥ 1, and an overlap from 0 to below 1"
        raise InputError("size and overlap", f"{tuple(size)} and {overlap}", expected, "Use 0.5 for the overlap.")
    window = tuple(min(px, side) for px, side in zip(size, whole, strict=True))
    importance = _importance(window).to(images.device)
    total, weight = images.new_zeros(len(images), *whole), images.new_zeros(whole)
    device = next(model.parameters()).device
    for place in _places(whole, window, overlap):
        part = images[(slice(None), slice(None), *place)].to(device)
        maps = method(model, part, target, logit=logit, **options)
        with torch.no_grad(), forward_hooks(model, logit=logit) as hooks:
            certain = probability(hooks.target_logit(part, target))
        strength = certain.view(-1, *[1] * len(whole))
        total[(slice(None), *place)] += (maps * strength).to(images) * importance
        weight[place] += importance
    return to_unit_range(total / weight, brain)


def _places(whole: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Places of windows: evenly spread from edge to edge, each sharing at least `overlap` with the next."""
    axes = []
    for side, px in zip(whole, window, strict=True):
        steps = -(-(side - px) // max(1, int(px * (1 - overlap))))
        starts = [round(step * (side - px) / max(steps, 1)) for step in range(steps + 1)]
        axes.append([slice(start, start + px) for start in starts])
    return product(*axes)


def _importance(window: Sequence[int]) -> Tensor:
    """Weight of each pixel of a window: a triangle along each axis, from near 0 at the edge to 1 at the center."""
    weight = torch.ones(())
    for px in window:
        ramp = 1 - (torch.arange(px) + 0.5 - px / 2).abs() / (px / 2 + 0.5)
        weight = weight[..., None] * ramp
    return weight

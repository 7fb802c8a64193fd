"""Maps of volumes and images that exceed the memory, or the size of the Swin: sliding windows with overlap."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hgisam.attention.swin import Logit, check_images, inspection_mode, spatial_size, target_logit
from hgisam.errors import InputError
from hgisam.maps.combine import check_brain, to_unit_range


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
    """Map by any method, window by window, each times the probability of the target class in it.

    A method scales each map to [0, 1], also where nothing bleeds: only the probability tells how strong the map of a
    window is beside that of another. Overlapping windows are averaged with weights that fall towards their rim, by
    MONAI's sliding-window inference. Each window costs the passes of the method, and a forward pass.

    Args:
        method: Of `hgisam.maps`.
        model, target, brain, logit: As in `hgi_sam`.
        images: [B, C, H, W] or volumes [B, C, D, H, W]; may be on the CPU while the model is on a GPU.
        size: Of a window in pixels along each axis, as in training; images that are smaller are padded with 0.
        overlap: Share of a window that the next one covers too, from 0 to below 1.
        probability: From the target logit [B] to [0, 1].
        options: Of the method.

    Returns and Raises: those of `hgi_sam`; an InputError for a size or overlap that does not fit.

    Example:
        >>> from timm.models import SwinTransformer
        >>> from hgisam.maps import swin_sam
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> sliding_windows(swin_sam, model, torch.randn(1, 3, 96, 128), 0, size=(64, 64)).shape
        torch.Size([1, 96, 128])

    Source: ours; the weights are those of Isensee et al., nnU-Net, Nature Methods 2021.
    """
    from monai.inferers.utils import sliding_window_inference  # takes seconds

    check_images(images)
    axes = len(spatial_size(images))
    if len(size) != axes or min(size) < 1 or not 0 <= overlap < 1:
        expected = f"{axes} sizes of 1 or more, and an overlap from 0 to below 1"
        raise InputError("size and overlap", f"{tuple(size)} and {overlap}", expected, "Use 0.5 for the overlap.")

    inside = torch.ones_like(images[:, 0]) if brain is None else brain
    check_brain(inside, images[:, 0].shape)

    def of_window(both: Tensor) -> Tensor:
        part, mask = both[:, :-1], both[:, -1]
        maps = method(model, part, target, brain=mask, logit=logit, **options)
        with torch.no_grad(), inspection_mode(model):
            certain = probability(target_logit(model, part, target, logit))
        return (maps * certain.view(-1, *[1] * axes))[:, None]

    devices: Any = {"sw_device": next(model.parameters()).device, "device": images.device}
    both = torch.cat([images, inside.to(images)[:, None]], dim=1)
    stitched: Any = sliding_window_inference(both, size, 1, of_window, overlap, mode="gaussian", **devices)
    return to_unit_range(stitched[:, 0], brain)

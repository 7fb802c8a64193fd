"""Maps averaged over shifted and mirrored images: test-time augmentation for any method of maps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hgisam.attention.swin import Logit
from hgisam.maps.combine import to_unit_range
from hgisam.maps.hgi_sam import hgi_sam
from hgisam.maps.swin_sam import swin_sam

SHIFTS_PX = ((-5, 2), (2, 5), (5, -2))  # no two of them move a patch of 4 px onto another


def averaged(
    method: Callable[..., Tensor], model: nn.Module, images: Tensor, target: int,
    *, brain: Tensor | None, shifts_px: Sequence[tuple[int, int]], **options: object,
) -> Tensor:  # fmt: skip
    """Mean map of a method over shifts of the images and their mirror images, moved back; [B, H, W] in [0, 1].

    A map depends on where the grids of patches and windows happen to lie, and its scale on its largest token alone.
    Both are chance, and the mean over positions of the grid removes most of it. Images are shifted cyclically, rows and
    columns only: the margin of a slice is air.

    Args:
        method: Of `hgisam.maps`.
        model, images, target, brain: As in `hgi_sam`.
        shifts_px: (rows, cols) of each further shift; n shifts cost 2 + 2 n maps of the method.
        options: Of the method.
    """

    def of_both(moved: Tensor) -> Tensor:
        return method(model, moved, target, **options) + method(model, moved.flip(-1), target, **options).flip(-1)

    total = of_both(images)  # first, so that the method checks the images as they are
    for rows, cols in shifts_px:
        moved = torch.roll(images, (rows, cols), dims=(-2, -1))
        total = total + torch.roll(of_both(moved), (-rows, -cols), dims=(-2, -1))
    return to_unit_range(total, brain)


def hgi_sam_averaged(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None,
    shifts_px: Sequence[tuple[int, int]] = SHIFTS_PX, gradient_at: str = "scores", stages: Sequence[int] = (0, 1, 2),
) -> Tensor:  # fmt: skip
    """HGI-SAM averaged over shifted and mirrored images.

    Args, Returns and Raises: those of `hgi_sam` and `averaged`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> hgi_sam_averaged(model, torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: ours; the map itself is that of the paper.
    """
    options = {"gradient_at": gradient_at, "stages": stages, "logit": logit}
    return averaged(hgi_sam, model, images, target, brain=brain, shifts_px=shifts_px, **options)


def swin_sam_averaged(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None,
    shifts_px: Sequence[tuple[int, int]] = SHIFTS_PX, stages: Sequence[int] = (0, 1, 2, 3),
) -> Tensor:  # fmt: skip
    """Swin-SAM averaged over shifted and mirrored images.

    Args, Returns and Raises: those of `swin_sam` and `averaged`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> swin_sam_averaged(model, torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: ours; the map itself is that of its paper.
    """
    return averaged(swin_sam, model, images, target, brain=brain, shifts_px=shifts_px, stages=stages, logit=logit)

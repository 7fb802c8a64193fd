"""Maps averaged over shifted and mirrored images: test-time augmentation for any method of maps."""

import numbers
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hgisam.errors import InputError
from hgisam.maps.combine import to_unit_range

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

    Raises:
        InputError: For shifts that are not pairs of integers, and as the method.
    """

    check_shifts(shifts_px)

    def of_both(moved: Tensor) -> Tensor:
        return method(model, moved, target, **options) + method(model, moved.flip(-1), target, **options).flip(-1)

    total = of_both(images)  # first, so that the method checks the images as they are
    for rows, cols in shifts_px:
        moved = torch.roll(images, (rows, cols), dims=(-2, -1))
        total = total + torch.roll(of_both(moved), (-rows, -cols), dims=(-2, -1))
    return to_unit_range(total, brain)


def check_shifts(shifts_px: object) -> None:
    """Raise an InputError unless shifts are pairs of whole pixels."""
    listed = shifts_px if isinstance(shifts_px, Sequence) else [()]
    pairs = [pair if isinstance(pair, Sequence) else () for pair in listed]
    if not all(len(pair) == 2 and all(isinstance(px, numbers.Integral) for px in pair) for pair in pairs):
        expected = "pairs of whole pixels such as ((-5, 2), (2, 5)), or () for the mirror image alone"
        raise InputError("shifts_px", repr(shifts_px), expected, "Give (rows, cols) of each shift.")

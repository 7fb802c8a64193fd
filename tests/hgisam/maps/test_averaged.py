"""Averages over shifted and mirrored images, against a method whose maps are known."""

from typing import Any

import pytest
import torch
from timm.models import SwinTransformer
from torch import Tensor, nn

from hgisam.errors import InputError
from hgisam.maps import hgi_sam, hgi_sam_averaged, swin_sam
from hgisam.maps.averaged import averaged


def brightness(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """A map that moves with the image."""
    return images[:, 0]


def left_half(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """A map that stays where it is, whatever the image: what a fixed grid adds."""
    maps = torch.zeros_like(images[:, 0])
    maps[:, :, : maps.shape[2] // 2] = 1
    return maps


def test_a_map_that_follows_the_image_stays_as_it_is() -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = averaged(brightness, nn.Identity(), images, 0, brain=None, shifts_px=((3, -2), (-1, 5)))
    low, high = images.amin(dim=(2, 3)), images.amax(dim=(2, 3))
    torch.testing.assert_close(maps, (images[:, 0] - low[..., None]) / (high - low)[..., None])


def test_what_does_not_follow_the_image_averages_out() -> None:
    images = torch.rand(1, 1, 8, 8)
    mirrored = averaged(left_half, nn.Identity(), images, 0, brain=None, shifts_px=())
    assert mirrored.abs().sum() == 0  # constant: each half once
    shifted = averaged(left_half, nn.Identity(), images, 0, brain=None, shifts_px=((0, 1),))
    assert shifted.unique().tolist() == [0.0]


def test_without_shifts_it_is_the_mean_with_the_mirror_image(tiny_model: SwinTransformer) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    two = hgi_sam(tiny_model, images, 1) + hgi_sam(tiny_model, images.flip(3), 1).flip(2)
    low, high = two.amin(dim=(1, 2), keepdim=True), two.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(hgi_sam_averaged(tiny_model, images, 1, shifts_px=()), (two - low) / (high - low))


@pytest.mark.parametrize("shift", [(4, 0), (-3, 5)])
def test_the_map_of_a_shift_is_moved_back(tiny_model: SwinTransformer, shift: tuple[int, int]) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    back = (-shift[0], -shift[1])
    expected = torch.zeros(1, 32, 32)
    for there, again in (((0, 0), (0, 0)), (shift, back)):
        moved = torch.roll(image, there, dims=(2, 3))
        maps = swin_sam(tiny_model, moved, 1) + swin_sam(tiny_model, moved.flip(3), 1).flip(2)
        expected += torch.roll(maps, again, dims=(1, 2))
    got = averaged(swin_sam, tiny_model, image, 1, brain=None, shifts_px=(shift,))
    assert torch.equal(got.argmax(), expected.argmax())
    torch.testing.assert_close(got, (expected - expected.min()) / (expected.max() - expected.min()))


@pytest.mark.parametrize("shifts", [5, "ab", (1, 2), ((1, 2), (3,)), ((1, 2.5),), (None,), ((1, 2, 3),)])
def test_shifts_that_are_no_pairs_of_pixels(tiny_model: SwinTransformer, shifts: Any) -> None:
    with pytest.raises(InputError, match=r"shifts_px: got .*, expected pairs of whole pixels") as caught:
        hgi_sam_averaged(tiny_model, torch.zeros(1, 3, 32, 32), 1, shifts_px=shifts)
    assert "\n" not in str(caught.value)

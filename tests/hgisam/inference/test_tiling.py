"""Maps of volumes by sliding windows: the same map where the volume fits, and windows that count with their score."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hgisam.errors import InputError
from hgisam.inference import sliding_windows
from hgisam.maps import hgi_sam, swin_sam
from tests.libraries import PooledSwin, large_weights
from tests.swins import build


@pytest.fixture
def model() -> Any:
    return large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2)))


def noise(*size: int) -> Tensor:
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", [hgi_sam, swin_sam])
def test_one_window_gives_the_map_of_the_whole_volume(model: Any, method: Any) -> None:
    volumes, brain = noise(16, 16, 32), torch.ones(2, 16, 16, 32)
    brain[:, :, :4] = 0
    maps = sliding_windows(method, model, volumes, 1, size=(16, 16, 32), brain=brain, stages=(0, 1))
    torch.testing.assert_close(maps, method(model, volumes, 1, brain=brain, stages=(0, 1)), rtol=0, atol=1e-5)


def test_windows_give_the_map_of_a_volume_that_fits(model: Any) -> None:
    """A volume that repeats every 8 voxels looks alike in each window, and stage 1 sees its neighbourhood alone."""
    volumes = noise(8, 8, 8).repeat(1, 1, 3, 3, 3)
    maps = sliding_windows(swin_sam, model, volumes, 1, size=(16, 16, 16), stages=(0,))
    whole = swin_sam(model, volumes, 1, stages=(0,))
    assert whole.std() > 0.05
    inside = (slice(None), *[slice(6, -6)] * 3)
    torch.testing.assert_close(maps[inside], whole[inside], rtol=0, atol=0.02)


def test_a_window_counts_with_its_probability(model: Any) -> None:
    """Two windows side by side; only the second bleeds."""
    half = noise(16, 16, 16)[:1]
    certain = iter([torch.zeros(1), torch.ones(1)])
    maps = sliding_windows(
        swin_sam, model, torch.cat([half, half], dim=-1), 1, size=(16, 16, 16), overlap=0, stages=(0, 1),
        probability=lambda _: next(certain),
    )  # fmt: skip
    assert maps[..., :16].abs().sum() == 0
    torch.testing.assert_close(maps[..., 16:], swin_sam(model, half, 1, stages=(0, 1)), rtol=0, atol=1e-5)


def test_images_larger_and_smaller_than_a_swin_of_fixed_size() -> None:
    swin, _ = build("v1")
    for size in ((40, 80), (20, 32)):
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
        maps = sliding_windows(hgi_sam, swin, images, 1, size=(32, 32))
        assert maps.shape == (2, *size)
        assert maps.amin(dim=(1, 2)).tolist() == [0, 0]
        assert maps.amax(dim=(1, 2)).tolist() == [1, 1]
    assert not any(module._forward_hooks for module in swin.modules())


@pytest.mark.parametrize(("size", "overlap"), [((16, 16), 0.5), ((16, 16, 0), 0.5), ((16, 16, 16), 1.0)])
def test_sizes_of_windows_that_do_not_fit(model: Any, size: tuple[int, ...], overlap: float) -> None:
    with pytest.raises(InputError, match=r"size and overlap: got .* expected 3 sizes of 1 or more"):
        sliding_windows(swin_sam, model, noise(16, 16, 16), 1, size=size, overlap=overlap)

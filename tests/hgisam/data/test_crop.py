"""Random crops of slices."""

import torch

from hgisam.data.crop import crop


def slices() -> tuple[torch.Tensor, torch.Tensor]:
    """Two slices of 8 × 8: pixel numbers with a bleed of one pixel, and one pixel of tissue."""
    numbers = torch.arange(1.0, 65.0).reshape(8, 8)
    images = torch.stack([numbers, torch.zeros(8, 8)])[:, None]
    images[1, 0, 6, 1] = 5.0
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[0, 0, 7] = 1
    return images, target


def test_every_crop_contains_the_bleed_or_tissue_and_matches_its_mask() -> None:
    images, target = slices()
    corners = set()
    for seed in range(200):
        squares, masks = crop(images, target, 4, [(seed, 0), (seed, 1)])
        assert squares.shape == (2, 1, 4, 4)
        assert masks.shape == (2, 4, 4)
        assert masks[0].sum() == 1
        assert squares[0, 0][masks[0] == 1] == images[0, 0, 0, 7]
        assert squares[1].sum() == 5.0
        assert masks[1].sum() == 0
        corners.add(int((squares[1, 0] == 5.0).nonzero()[0, 0]))
    assert corners == {2, 3}  # a crop ends at the border: its corner row is at most 4


def test_the_same_seed_gives_the_same_crop() -> None:
    images, target = slices()
    once, again = (crop(images, target, 4, [(3, 0), (3, 1)])[0] for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(crop(images, target, 8, [(0,), (0,)])[0], images)


def test_a_slice_without_tissue() -> None:
    squares, masks = crop(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), 4, [(0,)])
    assert squares.shape == (1, 3, 4, 4)
    assert not masks.any()

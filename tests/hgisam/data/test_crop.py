"""Squares cut from slices."""

import torch

from hgisam.data.crop import crop


def slices() -> tuple[torch.Tensor, torch.Tensor]:
    """Two slices of 8 × 8 whose value is their place; the first bleeds in one pixel, the second is tissue in one."""
    place = torch.arange(1.0, 65.0).reshape(8, 8)
    images = torch.stack([place, torch.zeros(8, 8)])[:, None]
    images[1, 0, 6, 1] = 5.0
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[0, 0, 7] = 1
    return images, target


def test_every_square_holds_the_bleed_or_tissue_and_fits_its_outline() -> None:
    images, target = slices()
    corners = set()
    for draw in range(200):
        squares, outlines = crop(images, target, 4, [(draw, 0), (draw, 1)])
        assert squares.shape == (2, 1, 4, 4)
        assert outlines.shape == (2, 4, 4)
        assert outlines[0].sum() == 1
        assert squares[0, 0][outlines[0] == 1] == images[0, 0, 0, 7]
        assert squares[1].sum() == 5.0
        assert outlines[1].sum() == 0
        corners.add(int((squares[1, 0] == 5.0).nonzero()[0, 0]))
    assert corners == {2, 3}  # rows 6 and 7 can't both lie below: squares end at the border


def test_the_same_stream_gives_the_same_square() -> None:
    images, target = slices()
    once, again = (crop(images, target, 4, [(3, 0), (3, 1)])[0] for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(crop(images, target, 8, [(0,), (0,)])[0], images)


def test_a_slice_without_tissue() -> None:
    squares, outlines = crop(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), 4, [(0,)])
    assert squares.shape == (1, 3, 4, 4)
    assert not outlines.any()

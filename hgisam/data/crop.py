"""Squares of slices: what a segmenter learns from, at a fraction of the cost of whole slices."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def crop(images: Tensor, target: Tensor, side: int, streams: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Cuts a square out of each slice: around a bleed, wherever in the square, or else around any tissue.

    Args:
        images: [B, C, H, W], 0 where there is no tissue.
        target: [B, H, W], 0 where nothing bleeds.
        side: Of the square in pixels, at most H and W.
        streams: Numbers [B] from which the random choice of each slice follows.

    Returns:
        Images [B, C, side, side] and target [B, side, side].

    Source: patches with forced foreground as in Isensee et al., nnU-Net, Nature Methods 2021; here each square of a
        bleeding slice holds some of the bleed, since half of the slices bleed nowhere.
    """
    cut = []
    for image, outline, stream in zip(images, target, streams, strict=True):
        rng = np.random.default_rng(stream)
        inside = (outline if outline.any() else (image != 0).any(dim=0)).nonzero()  # [n, 2]
        at = inside[rng.integers(len(inside))].tolist() if len(inside) else [0, 0]
        corner = []
        for pixel, length in zip(at, outline.shape, strict=True):
            corner.append(int(rng.integers(max(pixel - side + 1, 0), min(pixel, length - side) + 1)))
        row, col = (slice(first, first + side) for first in corner)
        cut.append((image[:, row, col], outline[row, col]))
    squares, outlines = zip(*cut, strict=True)
    return torch.stack(squares), torch.stack(outlines)

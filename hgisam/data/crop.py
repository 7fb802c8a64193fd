"""Random crops for training segmenters, at a fraction of the cost of whole slices."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def crop(images: Tensor, target: Tensor, side: int, streams: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Crop a random square from each slice: one that contains a pixel of the bleed, or else of any tissue.

    Args:
        images: [B, C, H, W], 0 outside tissue.
        target: [B, H, W] masks, 0 outside bleeds.
        side: Of the square in pixels, at most H and W.
        streams: Seeds [B] of the random choices.

    Returns:
        Images [B, C, side, side] and masks [B, side, side].

    Source: patches with forced foreground as in Isensee et al., nnU-Net, Nature Methods 2021; here every crop of a
        bleeding slice contains some of the bleed, since half of the slices have none.
    """
    cropped = []
    for image, mask, stream in zip(images, target, streams, strict=True):
        rng = np.random.default_rng(stream)
        inside = (mask if mask.any() else (image != 0).any(dim=0)).nonzero()  # [n, 2]
        pixel = inside[rng.integers(len(inside))].tolist() if len(inside) else [0, 0]
        corner = []
        for at, length in zip(pixel, mask.shape, strict=True):
            corner.append(int(rng.integers(max(at - side + 1, 0), min(at, length - side) + 1)))
        row, col = (slice(first, first + side) for first in corner)
        cropped.append((image[:, row, col], mask[row, col]))
    squares, masks = zip(*cropped, strict=True)
    return torch.stack(squares), torch.stack(masks)

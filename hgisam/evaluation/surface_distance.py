"""Distances between outlines."""

import warnings

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance


def hd95_mm(
    found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], pixel_mm: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """How far the outlines of two masks lie apart, the farthest twentieth of them left aside.

    Args:
        found: [slice, row, col].
        truth: [slice, row, col].
        pixel_mm: [slice] pixel pitch.

    Returns:
        [slice] in mm, the larger of both directions; NaN where either mask is empty, and there is no distance.

    Source: MONAI, `compute_hausdorff_distance` with the 95th percentile.
    """
    distance = np.full(len(found), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)  # MONAI on MONAI
        for i in np.flatnonzero(found.any(axis=(1, 2)) & truth.any(axis=(1, 2))):
            a, b = (torch.from_numpy(mask[i, None, None]) for mask in (found, truth))
            apart = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=float(pixel_mm[i]))
            distance[i] = apart.item()
    return distance

"""Surface distances between masks."""

import warnings

import numpy as np
import numpy.typing as npt
import torch

Masks = npt.NDArray[np.bool_]


def hd95_mm(predicted: Masks, truth: Masks, pixel_mm: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """95th percentile Hausdorff distance [slice] in mm between masks [slice, row, col]; NaN where one is empty.

    The larger of both directions; `pixel_mm` is the pixel pitch [slice].

    Source: MONAI, `compute_hausdorff_distance`.
    """
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # MONAI takes seconds

    distance_mm = np.full(len(predicted), np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)  # MONAI on MONAI
        for i in np.flatnonzero(predicted.any(axis=(1, 2)) & truth.any(axis=(1, 2))):
            a, b = (torch.from_numpy(mask[i, None, None]) for mask in (predicted, truth))
            found = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=float(pixel_mm[i]))
            distance_mm[i] = found.item()
    return distance_mm

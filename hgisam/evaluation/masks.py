"""From score map to mask: thresholds and their Dice curves."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from hgisam.data.masked_blur import masked_blur

Floats = npt.NDArray[np.floating]
Brain = npt.NDArray[np.uint8]  # 0 outside
Masks = npt.NDArray[np.bool_]
Grid = npt.NDArray[np.float64]  # ascending thresholds [T]
Curves = npt.NDArray[np.float64]  # Dice of slices at thresholds [n, T]
HU_GRID = np.arange(30.0, 101.0)  # candidate thresholds of the threshold baselines in HU
SMOOTHING_MM = 2.0  # standard deviation; best of those tried on a development cohort, 1.5 to 3 differ little
BONE_HU, AIR_HU = 100.0, -1000.0


def threshold_grid(count: int) -> Grid:
    """Candidate thresholds of maps in (0, 1], denser near 0, where products of maps concentrate."""
    return np.square(np.arange(1, count + 1) / count)


def apply_threshold(maps: Floats, threshold: npt.ArrayLike, brain: Brain) -> Masks:
    """Pixels of the brain where a map, or HU, is at or above one threshold, or one per slice; arrays [slice, row, col].

    Example:
        >>> import numpy as np
        >>> apply_threshold(np.array([[[0.2, 0.7, 0.9]]]), 0.7, np.array([[[1, 1, 0]]], np.uint8))
        array([[[False,  True, False]]])
    """
    return (maps >= np.reshape(threshold, (-1, 1, 1))) & (brain > 0)


def smoothed_hu(hu: npt.NDArray[np.number], brain: Brain, pixel_mm: float) -> npt.NDArray[np.float32]:
    """HU of the soft tissue of the brain [slice, row, col], denoised with a Gaussian of `SMOOTHING_MM`.

    Bone contributes nothing to the tissue beside it. All else becomes `AIR_HU`, which no threshold includes.
    """
    tissue = (brain > 0) & (hu < BONE_HU)
    sigma_px = (0, SMOOTHING_MM / pixel_mm, SMOOTHING_MM / pixel_mm)
    mean, _ = masked_blur(hu.astype(np.float32), tissue.astype(np.float32), lambda a: gaussian_filter(a, sigma_px))
    return np.where(tissue, mean, AIR_HU).astype(np.float32)


def dice_curve(maps: Floats, truth: Masks, brain: Brain, grid: Grid) -> Curves:
    """Dice [n, T] of every slice at every threshold, within the brain; arrays [n, H, W], truth not empty in any slice.

    Example:
        >>> import numpy as np
        >>> maps, truth = np.array([[[0.1, 0.6, 0.9]]]), np.array([[[False, True, True]]])
        >>> dice_curve(maps, truth, np.ones((1, 1, 3), np.uint8), np.array([0.05, 0.5, 0.95]))
        array([[0.8, 1. , 0. ]])
    """
    curves = []
    for values, lesion, inside in zip(maps, truth, brain > 0, strict=True):
        # a pixel is predicted at all thresholds up to its value: count them
        reached = np.searchsorted(grid, values[inside], side="right")
        hit = np.searchsorted(grid, values[inside & lesion], side="right")
        predicted, both = (np.bincount(r, minlength=len(grid) + 1)[::-1].cumsum()[::-1][1:] for r in (reached, hit))
        curves.append(2 * both / (predicted + lesion.sum()))
    return np.asarray(curves, dtype=np.float64).reshape(-1, len(grid))


def best_threshold(curves: Curves, grid: Grid) -> dict[str, Any]:
    """The threshold with the largest mean Dice over slices, and the mean curve over the grid."""
    mean = curves.mean(axis=0)
    best = int(mean.argmax())
    found = {"threshold": float(grid[best]), "validation_dice": float(mean[best]), "n_slices": len(curves)}
    return found | {"grid": grid.tolist(), "dice": mean.tolist()}

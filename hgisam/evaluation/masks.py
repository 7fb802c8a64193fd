"""From a map to a mask: thresholds, how they are chosen, and the way back to the native grid."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from hgisam.data.masked_blur import masked_blur

Curves = npt.NDArray[np.float64]  # Dice of slices at thresholds [n, T]
HU_GRID = np.arange(30.0, 101.0)  # thresholds tried for the floors, HU
SMOOTHING_MM = (
    2.0  # standard deviation; best of those tried for the floor on a development cohort, with little between 1.5 and 3
)
BONE_HU, AIR_HU = 100.0, -1000.0


def threshold_grid(count: int) -> npt.NDArray[np.float64]:
    """Thresholds tried for maps in (0, 1], closer together near 0, where products of maps live."""
    grid: npt.NDArray[np.float64] = (np.arange(1, count + 1) / count) ** 2
    return grid


def apply_threshold(
    maps: npt.NDArray[np.floating], threshold: npt.ArrayLike, brain: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Pixels of the brain at or above the threshold.

    Args:
        maps: [slice, row, col], a map in [0, 1], or HU for the floor.
        threshold: In the unit of `maps`; one, or one a slice.
        brain: [slice, row, col], 0 outside.
    """
    found: npt.NDArray[np.bool_] = (maps >= np.reshape(threshold, (-1, 1, 1))) & (brain > 0)
    return found


def smoothed_hu(hu: npt.NDArray[np.number], brain: npt.NDArray[np.uint8], pixel_mm: float) -> npt.NDArray[np.float32]:
    """HU of the brain with its noise averaged away; bone lends nothing to the tissue beside it, and is none.

    Args:
        hu: [slice, row, col].
        brain: [slice, row, col], 0 outside.
        pixel_mm: Pixel pitch.

    Returns:
        [slice, row, col] mean over the soft tissue around, weighted by a Gaussian of `SMOOTHING_MM`; bone and what lies
        outside of the brain become `AIR_HU`, so that no threshold calls them blood.
    """
    tissue = (brain > 0) & (hu < BONE_HU)
    sigma_px = (0, SMOOTHING_MM / pixel_mm, SMOOTHING_MM / pixel_mm)
    mean, _ = masked_blur(hu.astype(np.float32), tissue.astype(np.float32), lambda a: gaussian_filter(a, sigma_px))
    smoothed: npt.NDArray[np.float32] = np.where(tissue, mean, AIR_HU).astype(np.float32)
    return smoothed


def dice_curve(
    maps: npt.NDArray[np.floating],
    truth: npt.NDArray[np.bool_],
    brain: npt.NDArray[np.uint8],
    grid: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Dice of every slice at every threshold.

    Args:
        maps: [n, H, W].
        truth: [n, H, W], with something true in each slice.
        brain: [n, H, W]; nothing outside is ever segmented.
        grid: [T] ascending thresholds.

    Returns:
        [n, T].
    """
    curves = []
    for values, lesion, inside in zip(maps, truth, brain > 0, strict=True):
        # a pixel counts at thresholds up to its value: how many thresholds is that?
        reached = np.searchsorted(grid, values[inside], side="right")
        hit = np.searchsorted(grid, values[inside & lesion], side="right")
        predicted, both = (np.bincount(r, minlength=len(grid) + 1)[::-1].cumsum()[::-1][1:] for r in (reached, hit))
        curves.append(2 * both / (predicted + lesion.sum()))
    return np.asarray(curves, dtype=np.float64).reshape(-1, len(grid))


def best_threshold(curves: npt.NDArray[np.float64], grid: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The threshold with the largest mean Dice over slices, and the whole curve it was chosen from.

    Args:
        curves: [n, T] from `dice_curve`.
        grid: [T].
    """
    mean = curves.mean(axis=0)
    best = int(mean.argmax())
    return {
        "threshold": float(grid[best]),
        "validation_dice": float(mean[best]),
        "n_slices": len(curves),
        "grid": grid.tolist(),
        "dice": mean.tolist(),
    }


def to_native(
    prepared: npt.NDArray[np.floating], row: Mapping[str, Any], *, order: Literal[0, 1] = 1
) -> npt.NDArray[np.floating]:
    """Brings one prepared slice (a map, or a mask with `order=0`) back to the grid of its scan.

    Args:
        prepared: [H, W].
        row: Its row of `slices.parquet`.
        order: 1 for bilinear, 0 for nearest.

    Returns:
        [native_rows, native_cols] in canonical orientation; 0 where the scan reaches beyond the prepared field.
    """
    rows = (np.arange(row["native_rows"]) - row["native_row0"]) / row["native_step_row"]
    cols = (np.arange(row["native_cols"]) - row["native_col0"]) / row["native_step_col"]
    grid = np.stack(np.meshgrid(rows, cols, indexing="ij"))
    return np.asarray(map_coordinates(prepared.astype(np.float32), grid, order=order, mode="constant", cval=0.0))

"""Density of blood as a second source of evidence beside the map: blood is denser than brain.

On real slices their fusion segments better than either (`book/recorded/real_heads.json`). The one number that it needs,
a density threshold, is chosen from slice labels.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from hgisam.data.masked_blur import masked_blur
from hgisam.data.preprocess import soft_tissue
from hgisam.evaluation.masks import AIR_HU

Floats = npt.NDArray[np.floating]

FUSED = {"hgi_sam_density": "hgi_sam", "hgi_sam_averaged_density": "hgi_sam_averaged"}  # fusion → its map
# hyperparameters chosen on phantoms of another seed than that of any run, where values around them give the same Dice
SMOOTHING_MM = (3.0, 1.0, 1.0)  # standard deviation along slice, row and col
SLOPE_HU = 2.0  # scale of the logistic function
MAP_POWER = 0.15  # compresses the range of the map: products of stages span many orders of magnitude
DENSITY_GRID = np.arange(36.0, 65.0)  # candidate density thresholds in HU
MIN_TISSUE = 0.02  # weight of soft tissue around a pixel below which its density is undefined


def density_map(
    hu: npt.NDArray[np.int16], brain: npt.NDArray[np.uint8], pixel_mm: float, slice_mm: float
) -> npt.NDArray[np.float32]:
    """Denoised HU of one scan, with the median of the brain shifted to one level and partial volume at bone inpainted.

    Args:
        hu: [slice, row, col], the slices of one study in their order.
        brain: [slice, row, col], 0 outside.
        pixel_mm: Pixel pitch.
        slice_mm: Distance of slices.

    Returns:
        [slice, row, col] mean over the soft tissue around, weighted by a Gaussian of `SMOOTHING_MM`; `AIR_HU` outside
        of the brain and where no soft tissue is near.
    """
    levelled, tissue = (t.numpy() for t in soft_tissue(torch.from_numpy(hu), torch.from_numpy(brain), pixel_mm))
    sigma_px = np.divide(SMOOTHING_MM, (slice_mm, pixel_mm, pixel_mm))
    mean, near = masked_blur(levelled, tissue.astype(np.float32), lambda a: gaussian_filter(a, sigma_px))
    density: npt.NDArray[np.float32] = np.where((brain > 0) & (near > MIN_TISSUE), mean, AIR_HU).astype(np.float32)
    return density


def density_of_scan(
    hu: npt.NDArray[np.int16], brain: npt.NDArray[np.uint8], slices: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """`density_map` of one scan, with the spacing of its rows of the slice table."""
    pixel_mm, slice_mm = slices[["pixel_mm", "slice_mm"]].median()
    return density_map(hu, brain, float(pixel_mm), float(slice_mm))


def dense_areas(density: Floats) -> npt.NDArray[np.int64]:
    """Pixels of each slice at or above each threshold of `DENSITY_GRID`: [slice, row, col] → [slice, thresholds]."""
    reached = np.searchsorted(DENSITY_GRID, density.reshape(len(density), -1), side="right")
    counts = np.stack([np.bincount(row, minlength=len(DENSITY_GRID) + 1) for row in reached])
    areas: npt.NDArray[np.int64] = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return areas


def best_density_threshold(
    areas: npt.NDArray[np.int64], bleeds: npt.NDArray[np.bool_]
) -> tuple[float, npt.NDArray[np.float64]]:
    """The density threshold of blood, from slice labels alone.

    Below it all slices have dense areas, far above it none has: in between, the size of the dense area separates
    bleeding slices from others.

    Args:
        areas: [slice, thresholds] from `dense_areas`.
        bleeds: [slice].

    Returns:
        The HU of `DENSITY_GRID` at which areas have the best AUROC, and the AUROC of each.
    """
    from sklearn.metrics import roc_auc_score  # takes most of a second, and segmentation needs none of it

    auroc = np.array([roc_auc_score(bleeds, area) for area in areas.T])
    return float(DENSITY_GRID[auroc.argmax()]), auroc


def with_density(maps: Floats, density: Floats, threshold_hu: float) -> npt.NDArray[np.float32]:
    """Fusion of map and density: the map to the power of `MAP_POWER` times the logistic function of the density.

    Args:
        maps: [slice, row, col] in [0, 1].
        density: [slice, row, col] from `density_map`.
        threshold_hu: From `best_density_threshold`.

    Returns:
        [slice, row, col] in [0, 1].
    """
    evidence = expit((density - threshold_hu) / SLOPE_HU)
    refined: npt.NDArray[np.float32] = maps.astype(np.float32) ** MAP_POWER * evidence
    return refined.astype(np.float32)

"""Score maps before thresholding: maps, HU of the threshold baselines, masks of rules that need no threshold.

A group `maps.zarr` has an array NAME [slice, row, col] per method, rows as in the prepared set: each slice by a model
that never saw a mask of its fold. Where a method has one model per fold, NAME_validation has each slice by the model
whose validation fold it is in.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from skimage.filters import threshold_otsu

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.evaluation.masks import HU_GRID, Brain, Floats, Grid, smoothed_hu, threshold_grid

ScoreMaps = Mapping[str, tuple[Any, Any]]  # method → arrays to test on, and to choose thresholds on
Rows = npt.NDArray[np.int64]
THRESHOLD_BASELINES = ("hu_threshold", "smooth_hu_threshold")  # no network: HU inside the brain
VALIDATION = "_validation"
MASS = 0.5  # share of a map's sum that the mass rule keeps: half, by convention, never fitted
MASK_GRID = np.array([0.5])  # the only threshold of a mask


def otsu_mask(maps: Floats, brain: Brain) -> npt.NDArray[np.float32]:
    """1 where the brain is above the slice's Otsu threshold, else 0; arrays [slice, row, col].

    Source: Otsu, A threshold selection method from gray-level histograms, 1979; scikit-image, 256 bins.
    """
    masks = np.zeros(maps.shape, np.float32)
    for mask, values, inside in zip(masks, maps, brain > 0, strict=True):
        if inside.any():
            mask[inside] = values[inside] > threshold_otsu(values[inside])  # type: ignore[no-untyped-call]
    return masks


def mass_mask(maps: Floats, brain: Brain) -> npt.NDArray[np.float32]:
    """1 in the fewest pixels of the brain that hold `MASS` of the slice's sum, and their ties, else 0; maps ≥ 0."""
    masks = np.zeros(maps.shape, np.float32)
    for mask, values, inside in zip(masks, maps, brain > 0, strict=True):
        descending = np.sort(values[inside])[::-1]
        sums = descending.cumsum(dtype=np.float64)
        if inside.any() and sums[-1] > 0:
            mask[inside] = values[inside] >= descending[np.searchsorted(sums, MASS * sums[-1])]
    return masks


MASK_RULES = {"hgi_sam_otsu": ("hgi_sam", otsu_mask), "hgi_sam_mass": ("hgi_sam", mass_mask)}


def read_score_maps(*groups: str | Path) -> dict[str, tuple[Any, Any]]:
    """The arrays of several `maps.zarr`: method → those to test on, and those to choose thresholds on.

    Raises:
        InputError: If a group is absent or broken.

    Example:
        >>> import tempfile, zarr
        >>> folder = tempfile.mkdtemp()
        >>> _ = zarr.create_group(folder).create_array("hgi_sam", shape=(2, 8, 8), dtype="float16")
        >>> read_score_maps(folder)["hgi_sam"][0].shape
        (2, 8, 8)
    """
    arrays: dict[str, Any] = {}
    for path in groups:
        try:
            arrays |= sorted(zarr.open_group(path, mode="r").arrays())
        except (OSError, ValueError) as error:
            raise InputError(str(path), f"unreadable ({error})", "maps of a run", "Rerun the step.") from None
    names = [name for name in arrays if not name.endswith(VALIDATION) and name not in THRESHOLD_BASELINES]
    return {name: (arrays[name], arrays.get(name + VALIDATION, arrays[name])) for name in names}


def candidates(maps: Collection[str]) -> list[str]:
    """All methods that can be evaluated with these maps: the maps, mask rules, threshold baselines."""
    return [*maps, *(name for name, (source, _) in MASK_RULES.items() if source in maps), *THRESHOLD_BASELINES]


def grid_for(method: str, count: int) -> Grid:
    """Candidate thresholds of a method: HU, `count` of a map, or the only one of a mask."""
    if method in MASK_RULES:
        return MASK_GRID
    return HU_GRID if method in THRESHOLD_BASELINES else threshold_grid(count)


def score_maps_at(
    method: str, score_maps: ScoreMaps, prepared: PreparedDataset, rows: Rows, brain: Brain, *, validation: bool = False
) -> Floats:
    """Score maps, or HU, of one of the `candidates` on some rows [n] with their brain; all [n, row, col].

    With `validation` those to choose thresholds on, else those to test on.
    """
    if method in MASK_RULES:
        source, rule = MASK_RULES[method]
        return rule(score_maps_at(source, score_maps, prepared, rows, brain, validation=validation), brain)
    if method in THRESHOLD_BASELINES:
        hu: npt.NDArray[np.int16] = prepared.hu[rows]
        smooth = method == "smooth_hu_threshold"
        return smoothed_hu(hu, brain, float(prepared.slices["pixel_mm"].iloc[0])) if smooth else hu.astype(np.float32)
    return np.asarray(score_maps[method][int(validation)].oindex[rows], np.float32)

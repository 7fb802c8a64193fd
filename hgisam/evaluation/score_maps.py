"""What each method gives to be thresholded: its map, HU for the floors, a mask for rules that need no threshold.

A group `maps.zarr` has, for each method, an array NAME [slice, row, col], rows as in the prepared set: each slice by a
model that never saw a mask of its fold. Where a method has a model a fold, NAME_validation holds each slice by the
model whose validation fold it is in.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from skimage.filters import threshold_otsu

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.evaluation.masks import HU_GRID, smoothed_hu, threshold_grid

Floats = npt.NDArray[np.floating]
Brain = npt.NDArray[np.uint8]
ScoreMaps = Mapping[str, tuple[Any, Any]]  # method → what is measured, what thresholds are chosen on

THRESHOLD_BASELINES = (
    "hu_threshold",
    "smooth_hu_threshold",
)  # what every map has to beat: no network, only HU inside the brain
VALIDATION = "_validation"
MASS = 0.5  # share of a map's sum that the mass rule keeps: half, by convention, and never fitted
MASK_GRID = np.array([0.5])  # the one threshold of what is a mask already


def otsu_mask(maps: Floats, brain: Brain) -> npt.NDArray[np.float32]:
    """Pixels of the brain above the threshold that divides the slice's values into the two most compact groups.

    Args:
        maps: [slice, row, col].
        brain: [slice, row, col], 0 outside.

    Returns:
        [slice, row, col], 1 where kept, else 0; all 0 where the map is constant.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979; scikit-image, 256 bins.
    """
    masks = np.zeros(maps.shape, np.float32)
    for mask, values, inside in zip(masks, maps, brain > 0, strict=True):
        if inside.any():
            mask[inside] = values[inside] > threshold_otsu(values[inside])  # type: ignore[no-untyped-call]
    return masks


def mass_mask(maps: Floats, brain: Brain) -> npt.NDArray[np.float32]:
    """The fewest pixels of the brain that hold `MASS` of the slice's sum; equally bright ones stay together.

    Args:
        maps: [slice, row, col], not negative.
        brain: [slice, row, col], 0 outside.

    Returns:
        [slice, row, col], 1 where kept, else 0; all 0 where the map is 0.
    """
    masks = np.zeros(maps.shape, np.float32)
    for mask, values, inside in zip(masks, maps, brain > 0, strict=True):
        brightest = np.sort(values[inside])[::-1]
        held = brightest.cumsum(dtype=np.float64)
        if inside.any() and held[-1] > 0:
            mask[inside] = values[inside] >= brightest[np.searchsorted(held, MASS * held[-1])]
    return masks


MASK_RULES = {"hgi_sam_otsu": ("hgi_sam", otsu_mask), "hgi_sam_mass": ("hgi_sam", mass_mask)}


def read_score_maps(*groups: Path) -> dict[str, tuple[Any, Any]]:
    """The arrays of several `maps.zarr`, of each the measured and the one to choose on; floors have none.

    Raises:
        InputError: If a group is absent or broken.
    """
    arrays = {name: array for path in groups for name, array in sorted(_open(path).arrays())}
    names = [name for name in arrays if not name.endswith(VALIDATION) and name not in THRESHOLD_BASELINES]
    return {name: (arrays[name], arrays.get(name + VALIDATION, arrays[name])) for name in names}


def _open(path: Path) -> zarr.Group:
    try:
        return zarr.open_group(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"unreadable ({error})", "maps of a run", "Make the step again.") from None


def candidates(maps: Iterable[str]) -> list[str]:
    """All methods that can be measured where these maps are there: they, rules without threshold, floors."""
    maps = list(maps)
    return [*maps, *(name for name, (source, _) in MASK_RULES.items() if source in maps), *THRESHOLD_BASELINES]


def grid_for(method: str, count: int) -> npt.NDArray[np.float64]:
    """Thresholds tried for a method: HU, `count` of a map, or the only one of a mask."""
    if method in MASK_RULES:
        return MASK_GRID
    return HU_GRID if method in THRESHOLD_BASELINES else threshold_grid(count)


def score_maps_at(
    method: str,
    values: ScoreMaps,
    prepared: PreparedDataset,
    rows: npt.NDArray[np.int64],
    brain: Brain,
    *,
    validation: bool = False,
) -> Floats:
    """What a method thresholds on some slices.

    Args:
        method: One of `candidates`.
        values: From `read_score_maps`.
        prepared: Whose rows they are.
        rows: [n].
        brain: [n, row, col] of these rows.
        validation: What thresholds are chosen on, instead of what is measured.

    Returns:
        [n, row, col], a map in [0, 1] or HU.
    """
    if method in MASK_RULES:
        source, rule = MASK_RULES[method]
        return rule(score_maps_at(source, values, prepared, rows, brain, validation=validation), brain)
    if method in THRESHOLD_BASELINES:
        hu: npt.NDArray[np.int16] = prepared.hu[rows]
        smooth = method == "smooth_hu_threshold"
        return smoothed_hu(hu, brain, float(prepared.slices["pixel_mm"].iloc[0])) if smooth else hu.astype(np.float32)
    maps: Floats = values[method][int(validation)].oindex[rows].astype(np.float32)
    return maps

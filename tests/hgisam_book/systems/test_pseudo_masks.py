"""The rule of pseudo-masks, on slices whose blood is known."""

import numpy as np
import numpy.typing as npt
import pytest

from hgisam_book.systems.pseudo_masks import pseudo_masks

Bools = npt.NDArray[np.bool_]
ROWS, COLS = np.mgrid[:96, :96]
PIXEL_MM = 2.0
BRAIN = (np.hypot(ROWS - 48, COLS - 48) < 42).astype(np.uint8)[None]


def disc(row: float, col: float, radius: float) -> Bools:
    return np.hypot(ROWS - row, COLS - col) < radius


def slice_with(*parts: tuple[Bools, float]) -> npt.NDArray[np.int16]:
    """Brain of 32 HU in air, with discs of other HU, and noise: [1, row, col]."""
    hu = np.where(BRAIN[0] > 0, 32.0, -1000.0)
    for where, value in parts:
        hu[where] = value
    return np.rint(hu + np.random.default_rng(0).normal(0, 3, hu.shape)).astype(np.int16)[None]


def cam_at(row: float, col: float, width_px: float = 12) -> npt.NDArray[np.float32]:
    return np.exp(-((ROWS - row) ** 2 + (COLS - col) ** 2) / (2 * width_px**2)).astype(np.float32)[None] * BRAIN


def dice(a: Bools, b: Bools) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("blood_hu", [52, 62, 75])
@pytest.mark.parametrize("radius", [5, 9, 18])  # the largest fills the region of the map
def test_blood_under_the_map_is_found(blood_hu: float, radius: float) -> None:
    blood = disc(40, 36, radius)
    ventricle = disc(58, 46, 6)
    found = pseudo_masks(slice_with((ventricle, 8), (blood, blood_hu)), BRAIN, cam_at(42, 38), PIXEL_MM)
    assert dice(found[0], blood & (cam_at(42, 38)[0] >= 0.2)) > 0.93


def test_blood_far_from_the_map_and_bone_are_left_out() -> None:
    blood, far, bone = disc(40, 36, 7), disc(72, 60, 6), disc(40, 50, 3)
    hu = slice_with((blood, 62), (far, 62), (bone, 700))
    found = pseudo_masks(hu, BRAIN, cam_at(42, 38), PIXEL_MM)[0]
    assert dice(found, blood) > 0.93
    assert not found[far | bone].any()
    inside_but_not_near = pseudo_masks(hu, BRAIN, np.maximum(cam_at(42, 38), 0.5 * BRAIN), PIXEL_MM)[0]
    assert not inside_but_not_near[far].any()


def test_an_empty_map_gives_an_empty_mask() -> None:
    hu = slice_with((disc(40, 36, 7), 62))
    both = np.concatenate([cam_at(40, 36), 0 * cam_at(40, 36)])
    found = pseudo_masks(np.concatenate([hu, hu]), np.concatenate([BRAIN, BRAIN]), both, PIXEL_MM)
    assert found.dtype == bool
    assert found.any(axis=(1, 2)).tolist() == [True, False]
    assert not pseudo_masks(hu, 0 * BRAIN, cam_at(40, 36), PIXEL_MM).any()


def test_a_region_without_contrast_or_of_fluid_has_no_blood() -> None:
    flat = np.where(BRAIN > 0, 34, -1000).astype(np.int16)
    assert not pseudo_masks(flat, BRAIN, cam_at(40, 36), PIXEL_MM).any()


def test_a_shift_of_the_scanner_changes_nothing() -> None:
    hu = slice_with((disc(40, 36, 7), 60))
    shifted = np.where(BRAIN > 0, hu + 5, hu).astype(np.int16)
    first, second = (pseudo_masks(values, BRAIN, cam_at(40, 36), PIXEL_MM) for values in (hu, shifted))
    assert np.array_equal(first, second)

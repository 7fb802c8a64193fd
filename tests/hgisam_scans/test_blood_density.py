"""Density of blood, and its threshold from slice labels."""

import numpy as np
import pytest

from hgisam.evaluation.masks import AIR_HU
from hgisam_scans.blood_density import (
    DENSITY_GRID,
    MAP_POWER,
    best_density_threshold,
    dense_areas,
    density_map,
    with_density,
)


def head(size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Three slices of brain at 30 HU in a rim of bone; the middle one bleeds 70 HU, up to the bone."""
    r, c = np.mgrid[:size, :size] - size / 2
    distance = np.hypot(r, c)
    hu = np.where(distance < 20, 30, np.where(distance < 23, 1200, -1000)).astype(np.int16)
    brain = (distance < 20.5).astype(np.uint8)
    volume, inside = np.repeat(hu[None], 3, axis=0), np.repeat(brain[None], 3, axis=0)
    volume[1][(distance < 20) & (c > 10)] = 70
    return volume, inside


def test_density_is_levelled_denoised_and_reaches_the_bone() -> None:
    hu, brain = head()
    density = density_map(hu, brain, pixel_mm=1.0, slice_mm=5.0)
    assert density.shape == hu.shape
    assert (density[brain == 0] == AIR_HU).all()
    assert density[0, 24, 14] == pytest.approx(34, abs=1)  # the brain is shifted to one level
    assert density[1, 24, 38] > 55  # blood well inside, despite the brain in the neighboring slices
    assert density[1, 24, 43] > 50  # and beside the partial volume of bone
    shifted = density_map(hu + np.int16(12), brain, pixel_mm=1.0, slice_mm=5.0)
    assert np.abs(shifted - density)[(brain > 0) & (density > 0)].max() < 0.5  # another scanner's offset


def test_thick_slices_are_smoothed_less() -> None:
    hu, brain = head()
    near, far = (density_map(hu, brain, pixel_mm=1.0, slice_mm=mm)[0, 24, 38] for mm in (2.0, 20.0))
    assert near > far + 5


def test_areas_by_hand() -> None:
    density = np.array([[[30.0, 36.0], [40.5, 99.0]]])
    areas = dense_areas(density)[0]
    assert areas[0] == 3  # at 36 HU
    assert areas[DENSITY_GRID.tolist().index(37)] == 2
    assert areas[DENSITY_GRID.tolist().index(41)] == areas[-1] == 1


def test_slice_labels_alone_give_the_density_threshold() -> None:
    rng = np.random.default_rng(0)
    brain = rng.normal(40, 4, (60, 20, 20))
    bleeds = np.arange(60) % 2 == 0
    brain[bleeds, :3, :3] = rng.normal(60, 2, (30, 3, 3))
    threshold_hu, auroc = best_density_threshold(dense_areas(brain), bleeds)
    assert 46 <= threshold_hu <= 58
    assert auroc.max() > 0.99
    assert auroc[0] < 0.9


def test_fusion_is_high_only_where_map_and_density_are() -> None:
    maps = np.array([[[1.0, 1.0, 0.0, 0.5]]])
    density = np.array([[[100.0, 46.0, 100.0, AIR_HU]]])
    refined = with_density(maps, density, 46.0)[0, 0]
    assert refined[:3] == pytest.approx([1.0, 0.5, 0.0])
    assert refined[3] == pytest.approx(0.0, abs=1e-6)
    assert with_density(np.full((1, 1, 1), 0.5), np.full((1, 1, 1), 46.0), 46.0) == pytest.approx(0.5**MAP_POWER / 2)

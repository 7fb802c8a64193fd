"""Score maps before thresholding: mask rules by hand, and the roles of arrays by their names."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from skimage.filters import threshold_otsu

from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.masks import HU_GRID, smoothed_hu
from hgisam.evaluation.score_maps import candidates, grid_for, mass_mask, otsu_mask, read_score_maps, score_maps_at
from tests.conftest import make_prepared

ROW = np.array([[[0.5, 0.25, 0.125, 0.125, 0.0, 0.9]]], np.float32)
INSIDE = np.array([[[1, 1, 1, 1, 1, 0]]], np.uint8)


def test_half_of_the_mass_by_hand() -> None:
    """0.5 of a sum of 1.0 is the brightest pixel alone; of twice 0.3 and 0.4 both equal ones are needed."""
    assert mass_mask(ROW, INSIDE).tolist() == [[[1, 0, 0, 0, 0, 0]]]
    equal = np.array([[[0.4, 0.3, 0.3, 0.0, 0.0, 0.0]]], np.float32)
    assert mass_mask(equal, INSIDE).tolist() == [[[1, 1, 1, 0, 0, 0]]]


def test_a_map_of_zeros_and_a_slice_without_brain_have_an_empty_mask() -> None:
    for maps, brain in ((ROW * 0, INSIDE), (ROW, INSIDE * 0)):
        assert mass_mask(maps, brain).sum() == otsu_mask(maps, brain).sum() == 0


def test_otsu_thresholds_the_brain_of_each_slice() -> None:
    rng = np.random.default_rng(0)
    low, high = np.full((8, 8), 0.2), rng.normal(0.8, 0.02, (8, 8))
    maps = np.stack([np.hstack([low, high]), np.hstack([low, high]) / 10]).astype(np.float32)
    brain = np.ones(maps.shape, np.uint8)
    brain[:, 0] = 0
    masks = otsu_mask(maps, brain)
    assert masks[:, 1:, 8:].all()
    assert not masks[:, :, :8].any()
    assert not masks[:, 0].any()
    np.testing.assert_array_equal(masks[0, 1:] > 0, maps[0, 1:] > threshold_otsu(maps[0, 1:]))
    assert otsu_mask(np.ones_like(maps), brain).sum() == 0


def test_absent_maps_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"maps\.zarr: got unreadable .* Rerun the step"):
        read_score_maps(tmp_path / "maps.zarr")


def test_arrays_are_paired_with_those_that_thresholds_are_chosen_on(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2))
    for number, names in enumerate((["hgi_sam"], ["unet", "unet_validation"])):
        root = zarr.create_group(tmp_path / f"{number}.zarr")
        for value, name in enumerate(names):
            root.create_array(name, data=np.full(prepared.hu.shape, value + number, "float16"))
    score_maps = read_score_maps(tmp_path / "0.zarr", str(tmp_path / "1.zarr"))
    assert candidates(score_maps) == [
        "hgi_sam", "unet", "hgi_sam_otsu", "hgi_sam_mass", "hu_threshold", "smooth_hu_threshold",
    ]  # fmt: skip
    assert candidates(["unet"]) == ["unet", "hu_threshold", "smooth_hu_threshold"]
    rows = np.array([3, 8])
    brain = prepared.brain[rows]

    def given(name: str, *, validation: bool = False) -> np.ndarray:
        return score_maps_at(name, score_maps, prepared, rows, brain, validation=validation)

    assert (given("unet") == 1).all()
    assert (given("unet", validation=True) == 2).all()
    np.testing.assert_array_equal(given("hgi_sam"), given("hgi_sam", validation=True))
    np.testing.assert_array_equal(given("hu_threshold"), prepared.hu[rows])
    pixel_mm = prepared.slices["pixel_mm"].iloc[0]
    np.testing.assert_array_equal(given("smooth_hu_threshold"), smoothed_hu(prepared.hu[rows], brain, pixel_mm))
    np.testing.assert_array_equal(given("hgi_sam_mass"), mass_mask(given("hgi_sam"), brain))


@pytest.mark.parametrize(("method", "length"), [("hgi_sam", 7), ("unet", 7), ("hgi_sam_otsu", 1)])
def test_grids(method: str, length: int) -> None:
    assert len(grid_for(method, 7)) == length
    np.testing.assert_array_equal(grid_for("hu_threshold", 7), HU_GRID)

"""The lung phantom, and the engine of the package on it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.config import load_profile
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.runs.manifest import read_manifest
from hgisam_book.other_domains.lung import (
    lung_sets_step,
    lung_step,
    measure_lungs,
    to_hu,
    to_scale,
    window_in_hu,
    write_lungs,
)
from hgisam_book.other_domains.lung_phantom import LungSlices, lung_slices
from tests.conftest import TINY

SMALL = [
    *TINY, "study.trainings.lung.phantom.training_patients=12", "study.trainings.lung.phantom.evaluation_patients=12",
    "study.trainings.lung.data.image_px=32", "study.trainings.lung.train.epochs=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def made() -> LungSlices:
    return lung_slices(8, 64, seed=3)


def test_every_second_slice_has_ground_glass_inside_the_lungs(made: LungSlices) -> None:
    assert made.hu.shape == made.lung.shape == made.patch.shape == (8, 64, 64)
    assert made.hu.dtype == np.int16
    assert made.patch.any(axis=(1, 2)).tolist() == made.label.astype(bool).tolist() == [False, True] * 4
    assert not (made.patch & ~made.lung).any()


def test_hu_are_those_of_a_chest(made: LungSlices) -> None:
    healthy = made.lung & ~made.patch
    assert -900 < np.median(made.hu[healthy]) < -780
    assert -720 < np.median(made.hu[made.patch]) < -480
    assert np.quantile(made.hu[healthy], 0.99) > -300  # vessels, in all slices
    assert made.hu.max() > 250  # bone
    assert np.median(made.hu[:, :4]) < -950  # air around the body
    assert (made.lung.mean(axis=(1, 2)) > 0.1).all()


def test_a_threshold_also_finds_what_is_no_ground_glass(made: LungSlices) -> None:
    dense = made.lung & (made.hu > -700)
    without = made.label == 0
    assert (dense[without].sum(axis=(1, 2)) > 0.03 * made.lung[without].sum(axis=(1, 2))).all()


def test_slices_depend_on_seed_and_number_alone(made: LungSlices) -> None:
    later = lung_slices(2, 64, seed=3, first=5)
    assert np.array_equal(later.hu, made.hu[5:7])
    assert later.label.tolist() == [1, 0]
    assert not np.array_equal(lung_slices(1, 64, seed=4).hu[0], made.hu[0])


@pytest.mark.parametrize(("count", "size_px"), [(0, 64), (2, 16)])
def test_no_slices_or_too_few_pixels_are_one_error(count: int, size_px: int) -> None:
    with pytest.raises(InputError, match="or more"):
        lung_slices(count, size_px, seed=0)


def test_the_scale_keeps_vessels_below_bone_and_windows_are_lung_windows() -> None:
    assert to_scale(-850.0) == 34
    assert to_scale(50.0) < 100 < to_scale(350.0)
    assert to_hu(to_scale(-600.0)) == -600
    for name in ("smoke", "laptop", "paper"):
        lung, *_ = load_profile(name).variant("lung").windows
        level, width = window_in_hu(lung)
        assert -750 < level < -550
        assert 1400 < width < 1600


@pytest.fixture
def data(tmp_path: Path, made: LungSlices) -> PreparedDataset:
    profile = load_profile("smoke").variant("lung")
    return open_prepared(write_lungs(tmp_path / "set", made, profile, with_mask=True))


def test_a_perfect_map_scores_one_and_thresholds_are_chosen_on_other_folds(
    data: PreparedDataset, made: LungSlices
) -> None:
    class Array(np.ndarray):  # type: ignore[type-arg]
        @property
        def oindex(self) -> "Array":
            return self

    perfect, wrong = (values.astype(np.float32).view(Array) for values in (made.patch, made.lung & ~made.patch))
    table = measure_lungs(data, {"perfect": (perfect, perfect), "wrong": (wrong, wrong)}, count=20)
    scores = table.groupby("method")[["dice", "pointing"]].mean()
    assert scores.loc["perfect"].tolist() == [1.0, 1.0]
    assert scores.loc["wrong"].tolist() == [0.0, 0.0]
    assert {"hu_threshold", "smooth_hu_threshold"} < set(table["method"])
    assert sorted(table["row"].unique()) == [1, 3, 5, 7]


def test_the_training_set_has_no_masks_and_the_sets_share_no_slice(tmp_path: Path) -> None:
    variant = load_profile("smoke", SMALL).variant("lung")
    folder = lung_sets_step(variant, tmp_path)
    training, data = (open_prepared(folder / name) for name in ("train", "test"))
    assert training.mask is None
    assert data.mask is not None
    assert training.slices["any"].tolist() == [0, 1] * 6
    assert set(training.slices["split"]) == {"train", "val"}
    assert not any((training.hu[:] == image).all(axis=(1, 2)).any() for image in data.hu[:])


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", SMALL)


def test_the_step_measures_maps_and_baselines(tmp_path: Path, profile: Profile) -> None:
    folder = lung_step(profile, tmp_path)
    measured = pd.read_parquet(folder / "measured.parquet")
    assert {"hgi_sam", "swin_sam", "grad_cam", "hu_threshold", "smooth_hu_threshold"} == set(measured["method"])
    assert measured["dice"].between(0, 1).all()
    assert measured["pointing"].between(0, 1).all()
    assert measured.groupby("method").size().eq(6).all()
    assert read_manifest(folder.parent / "network")["profile"]["windows"][0]["name"] == "lung"
    assert lung_step(profile, tmp_path) == folder  # found done

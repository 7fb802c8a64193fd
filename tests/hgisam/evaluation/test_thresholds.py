"""Cross-validated thresholds: no patient is evaluated at a threshold that was chosen on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.score_maps import ScoreMaps
from hgisam.evaluation.thresholds import choose_thresholds, thresholds_by_slice
from tests.conftest import make_prepared

COUNT = 10


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    """Four folds of one bleeding patient and one without."""
    return open_prepared(make_prepared(tmp_path / "set"))


def levels(prepared: PreparedDataset, of_fold: tuple[float, ...]) -> np.ndarray:
    """A perfect map whose bleeds have another value in each fold, over a background of 0.1."""
    value = np.array(of_fold)[prepared.slices["fold"].to_numpy()][:, None, None]
    assert prepared.mask is not None
    return np.where(prepared.mask[:] > 0, value, 0.1).astype(np.float32)


class Array:
    """An array with the indexing of zarr."""

    def __init__(self, values: np.ndarray) -> None:
        self.oindex = values


def of(measured: np.ndarray, validation: np.ndarray) -> ScoreMaps:
    return {"hgi_sam": (Array(measured), Array(validation))}


def test_each_fold_uses_the_threshold_of_the_next(prepared: PreparedDataset) -> None:
    """All thresholds above 0.1 and up to the bleed's value are perfect; the first of them is chosen: 0.16, a square."""
    maps = levels(prepared, (0.4, 0.5, 0.7, 0.9))
    maps[prepared.slices["fold"] == 2] += 0.2  # its background is 0.3, so that 0.36 is its best
    chosen = choose_thresholds(prepared, of(maps, maps), ["hgi_sam"], count=COUNT)["hgi_sam"]
    assert chosen["folds"] == pytest.approx([0.16, 0.36, 0.16, 0.16])  # fold 1 has the threshold chosen on fold 2
    assert chosen["n_slices"] == 8
    assert chosen["threshold"] == pytest.approx(0.36)  # below every bleed, above every background
    assert chosen["validation_dice"] == 1
    thresholds = {"dataset": prepared.fingerprint, "methods": {"hgi_sam": chosen}}
    own = thresholds_by_slice(prepared, thresholds)
    np.testing.assert_array_equal(own["hgi_sam"], np.array(chosen["folds"])[prepared.slices["fold"]])
    external = thresholds_by_slice(prepared, thresholds | {"dataset": "another"})
    assert set(external["hgi_sam"]) == {chosen["threshold"]}


def test_test_maps_have_no_influence_on_thresholds(prepared: PreparedDataset) -> None:
    validation = levels(prepared, (0.3, 0.5, 0.7, 0.9))
    one, other = (
        choose_thresholds(prepared, of(measured, validation), ["hgi_sam"], count=COUNT)
        for measured in (validation, np.random.default_rng(0).random(validation.shape, np.float32))
    )
    assert one == other


def without_blood(prepared: PreparedDataset, folds: list[int]) -> PreparedDataset:
    """The set with the masks of some folds empty."""
    assert prepared.mask is not None
    mask = prepared.mask[:]
    mask[prepared.slices["fold"].isin(folds).to_numpy()] = 0
    return replace(prepared, mask=mask)


def test_a_fold_without_a_bleed_uses_the_next_that_has_one(prepared: PreparedDataset) -> None:
    maps = levels(prepared, (0.4, 0.5, 0.7, 0.9))
    maps[prepared.slices["fold"] == 2] += 0.2  # its background is 0.3, so that 0.36 is its best
    for folds, expected in (([1], [0.36, 0.36, 0.16, 0.16]), ([0, 1], [0.36, 0.36, 0.16, 0.36])):
        data = without_blood(prepared, folds)
        chosen = choose_thresholds(data, of(maps, maps), ["hgi_sam", "smooth_hu_threshold"], count=COUNT)
        assert chosen["hgi_sam"]["folds"] == pytest.approx(expected)
        assert chosen["hgi_sam"]["n_slices"] == 8 - 2 * len(folds)


def test_a_single_fold_with_blood_is_refused(prepared: PreparedDataset) -> None:
    for folds in ([0, 1, 2], [0, 1, 2, 3]):
        with pytest.raises(InputError, match="bleeding slices in fewer than two, expected in two"):
            choose_thresholds(without_blood(prepared, folds), {}, ["hu_threshold"], count=COUNT)


def test_two_folds_are_too_few(tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=4))
    with pytest.raises(InputError, match="three or more"):
        choose_thresholds(data, {}, ["hu_threshold"], count=COUNT)

"""A phantom scan: shapes, labels, densities, and the Dice of a threshold baseline."""

import numpy as np
import pytest

from data_prep.phantom import PhantomPatient, make_patient
from data_prep.phantom.acquisition import VISIBLE_MM2, drop_invisible
from data_prep.phantom.scanner import calibrate, response, sample_scanner
from hgisam.data.labels import LABELS
from hgisam.errors import InputError


@pytest.fixture(scope="module")
def evaluation() -> list[PhantomPatient]:
    return [make_patient(3, index, "evaluation", matrix=96) for index in range(8)]


@pytest.fixture(scope="module")
def training() -> list[PhantomPatient]:
    return [make_patient(3, index, "training", matrix=64) for index in range(6)]


def test_shapes_and_types(evaluation: list[PhantomPatient]) -> None:
    for patient in evaluation:
        assert patient.hu.dtype == np.int16
        assert patient.hu.shape == patient.mask.shape == patient.brain.shape
        assert patient.hu.shape[1:] == (96, 96)
        assert patient.labels.shape == (len(patient.hu), len(LABELS))
        assert patient.spacing_mm[0] == patient.thickness_mm == 5.0


def test_labels_match_the_mask(evaluation: list[PhantomPatient]) -> None:
    for patient in evaluation:
        pixel_mm2 = patient.spacing_mm[1] * patient.spacing_mm[2]
        for value in range(1, 6):
            area = (patient.mask == value).sum(axis=(1, 2)) * pixel_mm2
            np.testing.assert_array_equal(patient.labels[:, value], area >= VISIBLE_MM2)
            assert not ((area > 0) & (area < VISIBLE_MM2)).any()
        np.testing.assert_array_equal(patient.labels[:, 0], patient.labels[:, 1:].any(axis=1))
        assert patient.labels[:, 0].any() <= bool(patient.bleeds)


def test_invisible_specks_are_dropped() -> None:
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[0, :5, :8], mask[1, :5, :7] = 2, 5  # 40 mm2 are visible, 35 mm2 are not
    drop_invisible(mask, 1.0)
    assert (mask == 2).sum() == 40
    assert not (mask == 5).any()


def test_densities_of_the_scan(evaluation: list[PhantomPatient]) -> None:
    for patient in evaluation:
        middle = len(patient.hu) // 2
        tissue = patient.hu[middle][patient.brain[middle] & (patient.mask[middle] == 0)]
        assert 15 < np.median(tissue) < 45
        assert patient.hu[middle].max() > 500  # skull
        assert patient.hu[:, :4, :4].mean() < -900  # air
        assert (patient.mask > 0)[~patient.brain].sum() == 0
        assert 900 < patient.brain.sum() * np.prod(patient.spacing_mm) / 1000 < 2300


def test_the_lowest_slice_is_the_first(evaluation: list[PhantomPatient]) -> None:
    for patient in evaluation:
        middle, last = patient.brain[len(patient.brain) // 2].sum(), patient.brain[-1].sum()
        assert 0 < patient.brain[0].sum() < 0.6 * middle  # spinal canal or the lowest cerebellum
        assert last < 0.1 * middle  # the vertex


def test_same_arguments_same_patient() -> None:
    first, again = (make_patient(5, 2, "training", matrix=48) for _ in range(2))
    np.testing.assert_array_equal(first.hu, again.hu)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.bleeds == again.bleeds


def test_cohorts_differ(evaluation: list[PhantomPatient], training: list[PhantomPatient]) -> None:
    assert {patient.scanner.name for patient in evaluation} == {"Phantom E1"}
    assert len({patient.spacing_mm[1] for patient in training}) == len(training)
    assert len({patient.thickness_mm for patient in training}) > 1
    assert evaluation[0].bleeds != training[0].bleeds or evaluation[1].bleeds != training[1].bleeds


def test_about_half_bleed(evaluation: list[PhantomPatient], training: list[PhantomPatient]) -> None:
    bleeding = [bool(patient.bleeds) for patient in [*evaluation, *training]]
    assert 0.2 < np.mean(bleeding) < 0.8


def test_the_threshold_baseline_is_poor(evaluation: list[PhantomPatient]) -> None:
    thresholds = np.arange(40, 80, 4)
    scores = []
    for patient in evaluation:
        for k in np.flatnonzero(patient.labels[:, 0]):
            truth = patient.mask[k] > 0
            found = (patient.hu[k] > thresholds[:, None, None]) & patient.brain[k]
            scores.append(2 * (found & truth).sum(axis=(1, 2)) / (found.sum(axis=(1, 2)) + truth.sum()))
    assert len(scores) > 20
    assert 0.15 < np.mean(scores, axis=0).max() < 0.5


def test_response_keeps_a_constant_and_sharpening_overshoots() -> None:
    weights = response(32, 40, 1.2, 0.6)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    step = np.where(np.arange(40) < 20, 0.0, 1.0)
    assert (weights @ step).max() > 1.01
    assert (response(32, 40, 1.2, 0.0) @ step).max() <= 1.0 + 1e-6


def test_calibration_leaves_air_and_shifts_water() -> None:
    scanner = sample_scanner("evaluation", np.random.default_rng(0))
    seen = calibrate(scanner, np.array([-1000.0, 0.0, 100.0], np.float32))
    np.testing.assert_allclose(seen, [-1000, -0.75, 103.25], atol=1e-3)


@pytest.mark.parametrize(
    ("seed", "index", "cohort", "matrix"),
    [(0, 0, "testing", 64), (0, 0, "training", 8), (-1, 0, "training", 64), (0, -1, "training", 64)],
)
def test_wrong_arguments_are_named(seed: int, index: int, cohort: str, matrix: int) -> None:
    with pytest.raises(InputError, match="phantom"):
        make_patient(seed, index, cohort, matrix=matrix)  # type: ignore[arg-type]

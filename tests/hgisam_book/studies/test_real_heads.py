"""A classifier on real heads: numbers of a small set, and their reading."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import Checkpoint
from hgisam_book.figures import METHOD_NAMES
from hgisam_book.studies import real_heads
from hgisam_book.studies.real_heads import (
    choose_density_threshold,
    dice_table,
    measure_bleeding,
    measure_calibrated,
    measure_normal,
    reading,
    rows_with_brain,
    score_table,
    separation,
    spread,
    trainings_table,
)
from hgisam_scans.networks import Network, load_networks

RECORD: dict[str, Any] = {
    "bleeding": {
        "name": "bleeds",
        "slices": 2,
        "mean_score": 0.9,
        "largest_score": 1.0,
        "above_operating_point": 2,
        "calibrated": {"hgi_sam_density": {"threshold": 0.1, "dice": 0.31, "dice_gated": 0.29}},
        "methods": {
            "hgi_sam": {"dice": 0.4, "threshold": 1e-4},
            "swin_sam": {"dice": 0.3, "threshold": 0.1},
            "hgi_sam_averaged": {"dice": 0.35, "threshold": 0.1},
            "swin_sam_averaged": {"dice": 0.3, "threshold": 0.1},
            "grad_cam": {"dice": 0.1, "threshold": 0.1},
            "density_alone": {"dice": 0.3, "threshold": 0.5},
            "hgi_sam_density": {"dice": 0.35, "threshold": 0.1},
            "hgi_sam_averaged_density": {"dice": 0.36, "threshold": 0.1},
            "hu_threshold": {"dice": 0.3, "threshold": 50.0},
            "smooth_hu_threshold": {"dice": 0.2, "threshold": 48.0},
        },
    },
    "normal": [{"name": "n", "slices": 4, "mean_score": 0.5, "largest_score": 0.8, "above_operating_point": 1}],
    "auroc": 0.95,
    "checkpoint": {"name": "phantom-binary"},
    "recorded": {
        "name": "laptop-2-cores",
        "trainings": {
            "train": {
                "epochs": 30,
                "dice": {"hgi_sam": 0.2, "swin_sam": 0.25, "hgi_sam_averaged": 0.3, "hgi_sam_density": 0.4},
                "auroc": 0.85,
            }
        },
        "ladder": {"hgi_sam": {"dice": 0.2, "networks": 1}},
    },
}


@pytest.fixture
def predictor(checkpoint: Checkpoint) -> SlicePredictor:
    return SlicePredictor(checkpoint)


def test_slices_with_enough_brain(prepared: PreparedDataset) -> None:
    brain = np.zeros(prepared.brain.shape, np.uint8)
    brain[2] = 1
    mm = prepared.slices.assign(pixel_mm=20.0 / brain.shape[1] * 10)  # 200 mm of field
    assert rows_with_brain(replace(prepared, brain=brain, slices=mm)).tolist() == [2]
    with pytest.raises(InputError, match="too little brain"):
        rows_with_brain(replace(prepared, brain=np.zeros_like(brain)))


def test_separation() -> None:
    assert separation(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1
    assert separation(np.array([0.5]), np.array([0.5])) == 0.5


def test_bleeding_and_normal(
    prepared: PreparedDataset, predictor: SlicePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_heads, "MIN_BRAIN_CM2", 0.0)
    numbers, scores = measure_bleeding(predictor, prepared, 50.0)
    assert numbers["slices"] == len(scores) > 0
    assert list(numbers["methods"]) == [
        *real_heads.METHODS, "density_alone", *real_heads.FUSED, "hu_threshold", "smooth_hu_threshold",
    ]  # fmt: skip
    assert all(0 <= found["dice"] <= 1 for found in numbers["methods"].values())
    assert numbers["above_operating_point"] == (scores >= predictor.checkpoint.detection_threshold).sum()
    with pytest.raises(InputError, match="without a bleed"):
        measure_normal(predictor, prepared)
    normal = replace(prepared, slices=prepared.slices.assign(any=-1))
    numbers, scores = measure_normal(predictor, normal)
    assert numbers["largest_score"] == scores.max()
    assert numbers["slices"] == len(prepared.slices)


def test_masks_at_the_thresholds_of_the_calibration(prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose map is the truth itself, on slices that it scores by their number."""
    monkeypatch.setattr(real_heads, "MIN_BRAIN_CM2", 0.0)
    truth = require_masks(prepared)[:] > 0
    rows = np.flatnonzero(truth.any(axis=(1, 2)))

    def predict(self: Network, hu: Any, brain: Any, slices: pd.DataFrame) -> tuple[Any, Any]:
        maps = truth[slices.index].astype(np.float32)
        return maps, np.where(slices.index == rows[0], 0.0, 1.0)

    monkeypatch.setattr(Network, "predict", predict)
    found = measure_calibrated(load_networks("phantom-binary", method="hgi_sam", threshold=0.5), prepared)
    inside = truth[rows] & (prepared.brain[rows] > 0)
    expected = 2 * inside.sum(axis=(1, 2)) / (inside.sum(axis=(1, 2)) + truth[rows].sum(axis=(1, 2)))
    assert found["hgi_sam"]["threshold"] == 0.5
    assert found["hgi_sam"]["dice"] == pytest.approx(expected.mean())
    assert found["hgi_sam"]["dice_gated"] == pytest.approx(expected[1:].sum() / len(rows))  # the first is passed over


def test_the_density_threshold_lies_between_brain_and_blood(prepared: PreparedDataset) -> None:
    hu, bleeds = np.full(prepared.hu.shape, 35, np.int16), prepared.slices["any"].to_numpy() == 1
    hu[bleeds, 20:30, 20:30] = 60
    known = replace(prepared, hu=hu, brain=np.ones(hu.shape, np.uint8))
    assert 36 < choose_density_threshold(known) < 60


def test_masks_are_needed(
    prepared: PreparedDataset, predictor: SlicePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_heads, "MIN_BRAIN_CM2", 0.0)
    with pytest.raises(InputError, match="masks"):
        measure_bleeding(predictor, replace(prepared, mask=None), 50.0)
    with pytest.raises(InputError, match="empty"):
        measure_bleeding(predictor, replace(prepared, mask=np.zeros(prepared.hu.shape, np.uint8)), 50.0)


def test_tables_and_reading() -> None:
    assert dice_table(RECORD, METHOD_NAMES).loc["HGI-SAM"].tolist() == ["0.40", "0.0001"]
    assert score_table(RECORD)["predicted to bleed"].tolist() == ["2 of 2", "1 of 4"]
    ahead, calibrated, specific, separates = reading(RECORD, METHOD_NAMES)
    assert ahead == "The best map (HGI-SAM) is 0.10 ahead of the best method without a network (HU threshold) in Dice."
    assert "has a Dice of 0.31, 0.29 where" in calibrated
    assert "1 of 4 slices" in specific
    assert "specificity of 0.75" in specific
    assert "separates bleeding slices" in separates


@pytest.mark.parametrize(("dice", "words"), [(0.1, "0.20 behind"), (0.301, "level with")])
def test_a_reading_follows_the_numbers(dice: float, words: str) -> None:
    record: dict[str, Any] = copy.deepcopy(RECORD) | {"auroc": 0.6}
    for method in (*real_heads.METHODS, *real_heads.FUSED):
        record["bleeding"]["methods"][method]["dice"] = dice
    found = reading(record, METHOD_NAMES)
    assert words in found[0]
    assert "does not separate" in found[3]


def test_spread_of_the_trainings() -> None:
    table = trainings_table(RECORD, METHOD_NAMES)
    assert table.index.tolist() == ["phantom-binary, shipped", "train, 30 epochs"]
    assert table["HGI-SAM"].tolist() == ["0.40", "0.20"]
    told = spread(RECORD, METHOD_NAMES)
    assert told.startswith("2 trainings: HGI-SAM 0.20 to 0.40, standard deviation 0.14; ")
    assert "AUROC 0.85 to 0.95" in told
    assert told.endswith(
        "By 0.01 or more, HGI-SAM is ahead of Swin-SAM in 1 of them, and, fused with density, "
        "ahead of density alone in 2."
    )

"""Sizes of bleeds from their masks, and evaluations of sets that lack what a figure needs."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam.data.labels import LABELS
from hgisam.data.prepared import BOX_COLUMNS, PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.outputs import with_lesion_sizes, write_evaluation
from tests.conftest import make_prepared


def test_lesion_sizes_are_those_of_the_masks(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2, field_mm=64.0))  # 2 mm pixels, 5 mm slices
    rows = [8, 2, 0, 3]
    given = prepared.slices.iloc[rows][["patient", "study"]].assign(row=rows, score=[0.9, 0.3, 0.8, 0.4])
    sized = with_lesion_sizes(given, prepared)
    assert sized["area_mm2"].tolist() == [0, 144, 0, 144]  # 6 × 6 pixels in slices 2 and 3 of patient 0
    assert sized["volume_ml"].tolist() == pytest.approx([0, 0.72, 0, 0.72])


def test_lesion_sizes_need_masks(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=1, with_mask=False))
    with pytest.raises(InputError, match="masks"):
        with_lesion_sizes(pd.DataFrame({"row": [0]}), prepared)


def evaluate(data: PreparedDataset, folder: Path) -> dict[str, Any]:
    """Summary of an evaluation with the HU threshold alone; every slice is predicted to bleed."""
    folder.mkdir()
    scores = pd.DataFrame({"row": np.arange(len(data.slices)), "score": 0.9})
    thresholds = {"dataset": "another", "methods": {"hu_threshold": {"threshold": 50.0, "folds": [50.0]}}}
    write_evaluation(
        folder, data, {}, scores, thresholds, detection_threshold=0.5, profile_name="smoke", bootstrap=20, seed=0
    )
    return dict(json.loads((folder / "summary.json").read_text()))


def part(data: PreparedDataset, rows: Any) -> PreparedDataset:
    """The set with some of its slices."""
    assert data.mask is not None
    arrays = {name: getattr(data, name)[:][rows] for name in ("hu", "brain", "mask")}
    meta = data.meta | {"name": "part", "source": "test"}
    return replace(data, meta=meta, slices=data.slices[rows].reset_index(drop=True), **arrays)


@pytest.mark.parametrize(
    ("which", "sensitivity", "specificity", "dice", "false_positive_ml"),
    [
        ("no blood", None, 0.0, None, 0.0),
        ("only blood", 1.0, None, 1.0, None),
        ("one slice without blood", None, 0.0, None, 0.0),
        ("one slice with blood", 1.0, None, 1.0, None),
        ("one patient", 1.0, 0.0, 1.0, None),
    ],
)
def test_what_can_be_measured_is_and_the_rest_is_none(
    which: str, sensitivity: Any, specificity: Any, dice: Any, false_positive_ml: Any, tmp_path: Path
) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=4))
    bleeds, first = data.slices["any"] == 1, np.arange(len(data.slices))
    rows = {
        "no blood": data.slices["patient"].isin(["p1", "p3"]), "only blood": bleeds,
        "one slice without blood": first == 0, "one slice with blood": first == 2,
        "one patient": data.slices["patient"] == "p0",
    }  # fmt: skip
    summary = evaluate(part(data, np.asarray(rows[which])), tmp_path / "out")
    detection, segmentation = summary["detection"]["swin"], summary["segmentation"]["hu_threshold"]
    assert detection["sensitivity"]["mean"] == sensitivity
    assert detection["specificity"]["mean"] == specificity
    assert (detection["auroc"]["mean"] is None) == (None in (sensitivity, specificity))
    assert segmentation["dice_slice"]["mean"] == segmentation["dice_scan"]["mean"] == dice
    assert segmentation["false_positive_ml"]["mean"] == false_positive_ml
    n_scans = sum(group["n"] for group in segmentation["dice_by_volume_ml"].values())
    assert n_scans == segmentation["n_scans"] == (dice is not None) * data.slices[rows[which]]["patient"].nunique()


def test_a_set_whose_list_of_boxes_is_empty_gets_detection(tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=2, with_mask=False))
    slices = data.slices.assign(**dict.fromkeys(LABELS, 0))
    meta, boxes = data.meta | {"source": "test"}, pd.DataFrame(columns=list(BOX_COLUMNS))
    summary = evaluate(replace(data, meta=meta, slices=slices, boxes=boxes), tmp_path / "out")
    assert summary["detection"]["swin"]["specificity"]["mean"] == 0.0
    assert "localisation" not in summary

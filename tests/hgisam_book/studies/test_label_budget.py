"""Dice against annotated scans, and where it reaches a weakly supervised method."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.config.profile import load_profile
from hgisam.data.prepared import by_fold, open_prepared
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.networks import build_network
from hgisam_book.studies import label_budget
from hgisam_book.studies.label_budget import (
    budget_curve,
    equivalent_scans,
    equivalent_scans_interval,
    held_out_dice,
    worth_of_slice_labels,
)
from tests.conftest import TINY, make_prepared, untrained

CURVE = pd.Series([0.1, 0.3, 0.5, 0.4], index=[2, 4, 8, 16])


@pytest.mark.parametrize(
    ("dice", "scans"), [(0.05, 2), (0.1, 2), (0.2, math.sqrt(8)), (0.3, 4), (0.45, 2**2.75), (0.5, 8), (0.51, None)]
)
def test_where_the_curve_reaches_a_dice(dice: float, scans: float | None) -> None:
    assert equivalent_scans(CURVE, dice) == (None if scans is None else pytest.approx(scans))


def budgets(patients: int = 6) -> pd.DataFrame:
    """Two slices per patient; each patient with a Dice of 0.1, 0.3 and 0.5 from 2, 4 and all scans, 7 or 9 of them."""
    rows = [
        {"budget": name, "scans": scans or 7 + 2 * (p % 2), "fold": p % 2, "patient": f"p{p}", "row": 2 * p + s}
        | {"dice": dice}
        for name, scans, dice in (("all", 0, 0.5), ("2", 2, 0.1), ("4", 4, 0.3))
        for p in range(patients)
        for s in range(2)
    ]
    return pd.DataFrame(rows)


def test_the_curve_ascends_in_scans() -> None:
    curve = budget_curve(budgets())
    assert curve["budget"].tolist() == ["2", "4", "all"]
    assert curve["scans"].tolist() == [2, 4, 8]
    assert curve["dice"].tolist() == pytest.approx([0.1, 0.3, 0.5])
    assert set(curve["n_slices"]) == {12}
    assert set(curve["n_folds"]) == {2}


def test_the_interval_is_of_the_same_patients() -> None:
    table, options = budgets(), {"count": 200, "seed": 0}
    same = equivalent_scans_interval(table, pd.Series(0.4, index=range(12)), **options)
    assert [same["scans"], *same["ci95"]] == pytest.approx([4 * math.sqrt(2)] * 3)
    assert same["reached"] == 1
    never = equivalent_scans_interval(table, pd.Series(0.6, index=range(12)), **options)
    assert never == {"scans": None, "ci95": [None, None], "reached": 0}
    unequal = pd.Series(np.repeat([0.1, 0.7], 6), index=range(12))  # of half of the patients
    spread = equivalent_scans_interval(table, unequal, **options)
    assert spread["scans"] == pytest.approx(4 * math.sqrt(2))
    assert spread["ci95"][0] < spread["scans"]
    assert spread["ci95"][1] is None  # where the good half is sampled more often, the curve doesn't reach it
    assert 0.5 < spread["reached"] < 1
    paired = table.assign(dice=table["dice"] + table["row"].map(unequal) - 0.4)  # curve and method of the same patients
    assert [*equivalent_scans_interval(paired, unequal, **options)["ci95"]] == pytest.approx([4 * math.sqrt(2)] * 2)


def test_what_slice_labels_are_worth_over_splits_and_trainings() -> None:
    """Fold 0 has curves of 2, 4 and 7 scans, fold 1 of 2, 4 and 9; one training has a Dice of 0.3, the other of 0.6."""
    weak = {"seed 1": pd.Series(0.3, index=range(12)), "seed 2": pd.Series(0.6, index=range(12))}
    cells, worth = worth_of_slice_labels(budgets(), weak, count=50, seed=0)
    assert cells.loc["seed 1"].tolist() == [4, 4]
    assert cells.loc["seed 2"].isna().all()
    assert worth == {"scans": None, "ci95": [4, None], "reached": 0.5}
    alone, worth = worth_of_slice_labels(budgets(), {"seed 1": pd.Series(0.4, index=range(12))}, count=50, seed=0)
    assert alone.loc["seed 1"].tolist() == pytest.approx([math.sqrt(4 * 7), math.sqrt(4 * 9)])
    assert worth["ci95"] == pytest.approx([math.sqrt(4 * 7), math.sqrt(4 * 9)])  # of the splits: patients are alike


def test_a_network_that_predicts_brightness_segments_bright_squares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=12))
    split = by_fold(prepared, 1)
    profile = load_profile("smoke", [*TINY, "task=segmentation", "train.monitor=dice", "segmenter.channels=[8,16]"])
    checkpoint = untrained(build_network(profile), profile)
    monkeypatch.setattr(label_budget, "probability_of_bleeding", lambda model, images, target: images[:, 1].clamp(0, 1))
    predictor = SlicePredictor.of(checkpoint, profile)
    table = held_out_dice(predictor, split, threshold_grid(profile.evaluate.thresholds))
    assert set(table["patient"]) == {p for p in split.slices["patient"].iloc[split.rows("test")] if int(p[1:]) % 2 == 0}
    assert (split.mask[table["row"].to_numpy()] > 0).any(axis=(1, 2)).all()
    assert table["threshold"].nunique() == 1
    assert table["dice"].between(0.95, 1).all()  # noise may raise a pixel of the brain above the threshold

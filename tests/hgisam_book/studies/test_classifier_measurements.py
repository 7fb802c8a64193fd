"""One classifier evaluated on all patients: thresholds from other folds, maps of single classes, scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.masks import dice_curve, threshold_grid
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import build_network
from hgisam_book.studies.classifier_measurements import (
    dice_by_folds,
    dice_of_types,
    measure_classifier,
    of_class,
    slice_scores,
)
from tests.conftest import make_prepared, untrained

ROWS = np.array([2, 3, 14, 15, 26, 27, 38, 39])  # the bleeding slices: two of each fold


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    """Eight patients in four folds, one bleeding patient in each."""
    return open_prepared(make_prepared(tmp_path / "set"))


@pytest.fixture
def subtype(tiny: Profile) -> Checkpoint:
    torch.manual_seed(0)
    profile = tiny.model_copy(update={"task": "subtype"})
    return untrained(build_network(profile).eval(), profile)


def test_each_fold_is_evaluated_at_the_threshold_of_the_next(prepared: PreparedDataset) -> None:
    low, high = [0.8, 0.1], [0.2, 0.9]  # Dice at the two thresholds: the lower or the higher is better
    curves = np.array([low, low, high, high, low, high, low, low])  # fold 2: the higher one on average
    table = dice_by_folds(prepared, ROWS, curves, np.array([0.25, 0.5]))
    assert table["row"].tolist() == ROWS.tolist()
    assert table["patient"].tolist() == ["p0", "p0", "p2", "p2", "p4", "p4", "p6", "p6"]
    assert table["fold"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["threshold"].tolist() == [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    assert table["dice"].tolist() == [0.1, 0.1, 0.2, 0.2, 0.8, 0.2, 0.8, 0.8]


def test_a_fold_without_a_slice_for_its_threshold_is_refused(prepared: PreparedDataset) -> None:
    with pytest.raises(InputError, match="no such bleeding slice"):
        dice_by_folds(prepared, ROWS[:6], np.ones((6, 1)), np.ones(1))


def test_a_method_with_a_fixed_target_class(tiny_model: nn.Module) -> None:
    def constant(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return torch.full_like(images[:, 0], target)

    assert of_class(constant, 4)(tiny_model, torch.zeros(1, 3, 2, 2), 1).unique().tolist() == [4]


def test_subtypes_are_evaluated_by_their_own_logit_where_they_are_alone(
    subtype: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    """All bleeds of the set are intraparenchymal, class 2 of the task; one slice gets a second subtype."""
    slices = prepared.slices.copy()
    slices.loc[27, "subdural"] = 1
    predictor, method = SlicePredictor.of(subtype, tiny), methods_of(tiny.maps, ["hgi_sam"])["hgi_sam"]
    grid = threshold_grid(tiny.evaluate.thresholds)
    table = dice_of_types(predictor, replace(prepared, slices=slices), method, ROWS, grid)
    rows = ROWS[ROWS != 27]
    assert table["row"].tolist() == rows.tolist()
    assert set(table["target"]) == {"intraparenchymal"}
    assert prepared.mask is not None
    hu, brain, mask = (array[rows] for array in (prepared.hu, prepared.brain, prepared.mask))
    maps = predictor.maps(predictor.images(hu, brain), of_class(method, 2), 32)
    curves = dice_curve(maps.astype(np.float32), mask > 0, brain, grid)
    pd.testing.assert_frame_equal(
        table[["row", "threshold", "dice"]],
        dice_by_folds(prepared, rows, curves, grid)[["row", "threshold", "dice"]],
        atol=1e-3,
    )


def test_labels_without_subtypes_give_no_dice_of_subtypes(
    subtype: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    without = replace(prepared, slices=prepared.slices.assign(intraparenchymal=0))
    predictor, method = SlicePredictor.of(subtype, tiny), methods_of(tiny.maps, ["hgi_sam"])["hgi_sam"]
    assert dice_of_types(predictor, without, method, ROWS, threshold_grid(tiny.evaluate.thresholds)).empty


def test_scores_are_those_of_single_slices(subtype: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    predictor = SlicePredictor.of(subtype, tiny)
    table = slice_scores(predictor, prepared)
    assert table["row"].tolist() == list(range(48))
    assert table["any"].sum() == len(ROWS)
    images = predictor.images(prepared.hu[40:41], prepared.brain[40:41])
    with torch.no_grad():
        probability = subtype.model(images).sigmoid()[0]
    assert table.loc[40, "score"] == pytest.approx(float(probability[0]), abs=1e-5)
    assert table.loc[40, "score_subdural"] == pytest.approx(float(probability[5]), abs=1e-5)


def test_both_tasks_write_the_same_tables(
    subtype: Checkpoint, tiny_model: nn.Module, tiny: Profile, prepared: PreparedDataset, tmp_path: Path
) -> None:
    binary = untrained(tiny_model, tiny)
    targets = []
    for checkpoint in (binary, subtype):
        measure_classifier(
            SlicePredictor.of(checkpoint, tiny), prepared, methods_of(tiny.maps), tmp_path,
            grid=threshold_grid(tiny.evaluate.thresholds), gradient_at=tiny.maps.gradient_at, seed=tiny.seed,
        )  # fmt: skip
        dice = pd.read_parquet(tmp_path / "dice.parquet")
        bleeding = dice[dice["target"] == "any"]
        assert bleeding.groupby("method").size().to_dict() == {"hgi_sam": len(ROWS), "swin_sam": len(ROWS)}
        assert dice["dice"].between(0, 1).all()
        assert len(pd.read_parquet(tmp_path / "scores.parquet")) == 48
        assert set(pd.read_parquet(tmp_path / "heads.parquet")["head"]) == {0, 1, 2, 3, 4}
        targets.append(set(dice["target"]))
    assert targets == [{"any"}, {"any", "intraparenchymal"}]

"""Method comparison: the same results as the evaluation, and a sample that depends on the seed alone."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.masks import threshold_grid
from hgisam.evaluation.measurements import measure_scans, predictions_table
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.maps import METHODS
from hgisam.models.checkpoint import Checkpoint
from hgisam_book.studies.method_comparison import (
    bleeding_rows,
    compare_methods,
    dice_by_slice,
    dice_curves,
    head_contrasts,
)
from tests.conftest import make_prepared


def test_bleeding_rows_bleed_and_are_sampled_by_the_seed(prepared: PreparedDataset, tmp_path: Path) -> None:
    rows = bleeding_rows(prepared, "test", most=100, seed=0)
    assert prepared.mask is not None
    assert list(rows) == [r for r in prepared.rows("test") if prepared.mask[int(r)].any()]
    few = [bleeding_rows(prepared, "test", most=2, seed=seed) for seed in range(20)]
    assert all(len(some) == 2 and set(some) <= set(rows) and (np.diff(some) > 0).all() for some in few)
    assert len({tuple(some) for some in few}) > 1
    np.testing.assert_array_equal(few[3], bleeding_rows(prepared, "test", most=2, seed=3))
    with pytest.raises(InputError, match="no bleeding slice"):
        bleeding_rows(prepared, "train", most=2, seed=0)
    blind = open_prepared(make_prepared(tmp_path / "blind", with_mask=False))
    with pytest.raises(InputError, match="masks"):
        bleeding_rows(blind, "val", most=2, seed=0)


def test_results_are_those_of_the_evaluation(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset, tmp_path: Path
) -> None:
    rows = {split: bleeding_rows(prepared, split, most=100, seed=0) for split in ("val", "test")}
    predictor, methods, grid = SlicePredictor.of(checkpoint, tiny), methods_of(tiny.maps), threshold_grid(20)
    options = {"bootstrap": tiny.evaluate.bootstrap, "seed": tiny.seed}
    found = compare_methods(predictor, prepared, methods, rows, grid, **options)
    extract_maps(predictor, methods, prepared, tmp_path / "maps")
    values = read_score_maps(tmp_path / "maps" / "maps.zarr")
    thresholds = pd.DataFrame([found["threshold"].to_dict()] * len(prepared.slices))
    scores = prepared.slices[["study"]].assign(row=range(len(prepared.slices)), score=0.5)[["row", "score"]]
    table = predictions_table(prepared, scores, 0.5)
    measured = measure_scans(prepared, values, thresholds, table)
    dice = measured[(measured["level"] == "slice") & (measured["metric"] == "dice") & ~measured["gated"]]
    for name in tiny.maps.methods:
        mine = dice[dice["method"] == name].set_index("row")["value"]
        assert found.loc[name, "validation_dice"] == pytest.approx(mine[rows["val"]].mean())
        assert found.loc[name, "mean"] == pytest.approx(mine[rows["test"]].mean())
        assert found.loc[name, "low"] <= found.loc[name, "mean"] <= found.loc[name, "high"]


def test_dice_of_every_bleeding_slice_at_the_threshold_of_its_fold(prepared: PreparedDataset) -> None:
    """The networks of fold 0 predict 0.3 where it bleeds, less than the threshold that was chosen on fold 1 for it."""
    assert prepared.mask is not None
    bleeds, fold = prepared.mask[:] > 0, prepared.slices["fold"].to_numpy()
    test = np.where(bleeds, np.where(fold == 0, 0.3, 0.9)[:, None, None], 0.1).astype(np.float32)
    validation = np.where(bleeds, np.float32(0.9), np.float32(0.5))
    score_maps = {"hgi_sam": (SimpleNamespace(oindex=test), SimpleNamespace(oindex=validation))}
    table = dice_by_slice(prepared, score_maps, ["hgi_sam"], count=10)
    assert sorted(table["row"]) == np.flatnonzero(bleeds.any(axis=(1, 2))).tolist()
    assert (table["fold"] == fold[table["row"]]).all()
    assert (table["patient"] == prepared.slices["patient"].to_numpy()[table["row"]]).all()
    assert ((table["threshold"] > 0.5) & (table["threshold"] <= 0.9)).all()
    assert table.groupby("fold")["dice"].unique().map(list).to_dict() == {0: [0.0], 1: [1.0], 2: [1.0], 3: [1.0]}


def test_a_map_of_ones_is_the_whole_brain(checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    def ones(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return torch.ones_like(images[:, 0])

    rows = bleeding_rows(prepared, "test", most=100, seed=0)
    grid = threshold_grid(20)
    curves = dice_curves(SlicePredictor.of(checkpoint, tiny), prepared, {"ones": ones}, rows, grid)["ones"]
    assert prepared.mask is not None
    truth, brain = prepared.mask[rows] > 0, prepared.brain[rows] > 0
    expected = 2 * (truth & brain).sum(axis=(1, 2)) / (truth.sum(axis=(1, 2)) + brain.sum(axis=(1, 2)))
    np.testing.assert_allclose(curves, np.repeat(expected[:, None], len(grid), axis=1))


def test_every_method_can_be_compared(checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    methods = methods_of(tiny.maps, METHODS)
    assert list(methods) == list(METHODS)
    rows = bleeding_rows(prepared, "val", most=2, seed=0)
    curves = dice_curves(SlicePredictor.of(checkpoint, tiny), prepared, methods, rows, threshold_grid(20))
    assert {curve.shape for curve in curves.values()} == {(2, 20)}


def test_head_contrasts_have_one_row_per_head_whatever_the_batch(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    rows = bleeding_rows(prepared, "val", most=100, seed=0)
    table = head_contrasts(SlicePredictor.of(checkpoint, tiny), prepared, rows, gradient_at="weights")
    assert list(table.columns) == ["stage", "block", "head", "received", "weighted"]
    assert table.groupby(["stage", "block"]).size().tolist() == [2, 2, 3, 3, 3, 3, 5, 5]  # and all heads together
    assert (table[["received", "weighted"]] > 0).all(axis=None)
    small = tiny.model_copy(update={"maps": tiny.maps.model_copy(update={"batch_size": 3})})
    again = head_contrasts(SlicePredictor.of(checkpoint, small), prepared, rows, gradient_at="weights")
    np.testing.assert_allclose(table.to_numpy(), again.to_numpy(), rtol=1e-4)

"""Every variant on a tiny network; results equal to those of the method comparison; all defects are accounted for."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.predictor import SlicePredictor
from hgisam.maps import hgi_sam
from hgisam.models.checkpoint import Checkpoint
from hgisam_book.studies.ablation import DEFAULT, NOT_RUN, TEST_WINDOWS, Variant, ablate, variants_of
from hgisam_book.studies.method_comparison import bleeding_rows, compare_methods


def options(profile: Profile) -> dict[str, Any]:
    """Grid of thresholds, bootstrap and seed of a profile."""
    grid = threshold_grid(profile.evaluate.thresholds)
    return {"grid": grid, "bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}


def variants(checkpoint: Checkpoint, profile: Profile) -> dict[str, Variant]:
    return variants_of(checkpoint.model, profile.maps, pixel_mm=profile.pixel_mm)


def test_every_variant_runs_and_is_compared_with_the_variant_that_it_changes(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    rows = {split: bleeding_rows(prepared, split, most=100, seed=0) for split in ("val", "test")}
    changed, predictor = variants(checkpoint, tiny), SlicePredictor.of(checkpoint, tiny)
    table, chosen = ablate(predictor, prepared, changed, rows, **options(tiny))
    assert list(table.index) == list(changed)
    assert set(chosen) == set(changed)
    assert set(table["against"]) <= set(table.index)
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    assert (table["difference_low"] <= table["difference"] + 1e-12).all()
    assert table.loc[DEFAULT, "difference"] == 0
    assert np.isnan(table.loc[DEFAULT, "p_value"])
    tested = table["p_value"].notna()
    assert (table["p_holm"].notna() == tested).all()
    smallest = table.loc[tested, "p_value"].min()
    assert table["p_holm"].min() == pytest.approx(min(1, smallest * len(table)))
    for name in table.index:  # two slices per patient: the mean of patients is that of slices
        expected = table.loc[name, "mean"] - table.loc[table.loc[name, "against"], "mean"]
        assert table.loc[name, "difference"] == pytest.approx(expected, abs=1e-9)
    assert table.loc["8: threshold 0.05, HGI-SAM", "threshold"] == 0.05
    plain = compare_methods(predictor, prepared, {"plain": changed[DEFAULT].method}, rows, **options(tiny)).loc["plain"]
    for column in ("threshold", "validation_dice", "mean", "low", "high"):
        assert table.loc[DEFAULT, column] == plain[column]


def test_the_windows_of_the_released_test_code_change_the_images(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    seen = []

    def spy(model: nn.Module, images: torch.Tensor, target: int) -> torch.Tensor:
        seen.append(images)
        return hgi_sam(model, images, target)

    rows = {split: bleeding_rows(prepared, split, most=2, seed=0) for split in ("val", "test")}
    both = {DEFAULT: Variant("", "", spy), "other": Variant("", "", spy, test_windows=True)}
    ablate(SlicePredictor.of(checkpoint, tiny), prepared, both, rows, **options(tiny))
    trained, other = seen
    changed = [bool((a != b).any()) for a, b in zip(trained.unbind(1), other.unbind(1), strict=True)]
    assert changed == [window.name in TEST_WINDOWS for window in tiny.windows] == [True, True, False]


def test_all_defects_of_the_released_code_are_run_or_accounted_for(checkpoint: Checkpoint, tiny: Profile) -> None:
    run = {int(name.split(":")[0]) for name in variants(checkpoint, tiny) if ":" in name}
    assert run | set(NOT_RUN) == set(range(1, 14))
    assert not run & set(NOT_RUN)


@pytest.mark.parametrize("stages", [[0], [0, 1], [0, 1, 2, 3]])
def test_the_stages_of_the_profile_are_no_variant(checkpoint: Checkpoint, tiny: Profile, stages: list[int]) -> None:
    profile = tiny.model_copy(update={"maps": tiny.maps.model_copy(update={"stages": stages})})
    changed = variants(checkpoint, profile)
    names = {(0,): "stage 1 alone", (0, 1): "stages 1, 2", (0, 1, 2, 3): "all stages"}
    assert names[tuple(stages)] not in changed
    assert "stages 1, 2, 3" in changed
    assert all(variant.against in changed for variant in changed.values())

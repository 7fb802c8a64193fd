"""Steps of the supervised baselines, on a set that trains in seconds."""

import json
from pathlib import Path

import pandas as pd
import pytest
import zarr

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.studies import baselines
from hgisam_book.studies.baselines import (
    REPEATS,
    Budget,
    baseline_step,
    label_budget_step,
    plan_budgets,
    training_histories,
)
from tests.conftest import SMALL_UNET, TINY, make_prepared

UNET = {**SMALL_UNET, "train.passes": 3}
OPTIONS = [*TINY, "data.folds=4", f"study.trainings={json.dumps({'unet': UNET})}", "study.label_budget=[1,2,4,9]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a set with masks: 16 patients, four per fold, half of them bleeding in two of six slices."""
    runs = tmp_path_factory.mktemp("runs")
    make_prepared(runs / "smoke" / "prepared" / "ct-ich", patients=16)
    return runs


@pytest.fixture(scope="module")
def profile() -> Profile:
    """One epoch of a small U-Net."""
    return load_profile("smoke", OPTIONS)


def test_each_fold_has_a_network_that_held_it_out(
    runs: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = baseline_step(profile, runs, "unet")
    networks = [load_checkpoint(runs / "smoke" / "baselines" / "unet" / f"fold-{fold}") for fold in range(4)]
    assert [network.profile.train.fold for network in networks] == [0, 1, 2, 3]
    inputs = read_manifest(folder)["inputs"]
    assert set(inputs) == {"prepared/ct-ich", *(f"baselines/unet/fold-{fold}" for fold in range(4))}
    maps = zarr.open_group(folder / "maps.zarr", mode="r")
    assert set(maps.array_keys()) == {"unet", "unet_validation"}
    assert maps["unet"].shape == (96, 32, 32)
    assert len(pd.read_parquet(folder / "scores.parquet")) == 96
    assert {len(history) for history in training_histories(Run(profile, runs), "unet").values()} == {1}
    monkeypatch.setattr(baselines, "extract_by_fold", lambda *_: pytest.fail("repeated"))
    assert baseline_step(profile, runs, "unet") == folder


def test_budgets_take_as_many_steps_as_all_scans(runs: Path, profile: Profile) -> None:
    planned, left_out = plan_budgets(
        open_prepared(runs / "smoke" / "prepared" / "ct-ich"), profile.study.label_budget,
        passes=profile.variant("unet").train.passes, seed=profile.seed,
    )  # fmt: skip
    # of 8 training patients 4 bleed, each in two slices: a balanced sample of 16 slices; of one scan 4, of two scans 8
    assert planned == [Budget(scans, fold, 3 * 4 // scans) for fold in range(REPEATS) for scans in (1, 2)]
    assert left_out == [{"scans": scans, "found": 4} for scans in (4, 9)]


def test_the_table_of_the_label_budget(runs: Path, profile: Profile) -> None:
    folder = label_budget_step(profile, runs)
    table = pd.read_parquet(folder / "dice.parquet")
    assert table.groupby("budget")["scans"].unique().map(list).to_dict() == {"1": [1], "2": [2], "all": [4]}
    assert table.groupby("budget").size().to_dict() == dict.fromkeys(("1", "2", "all"), 4 * REPEATS)
    assert table["dice"].between(0, 1).all()
    assert len(json.loads((folder / "left_out.json").read_text())) == 2
    few = load_checkpoint(runs / "smoke" / "baselines" / "label_budget" / "1-scans" / "fold-1").profile.train
    assert (few.patients, few.passes, few.fold) == (1, 12, 1)


def test_a_baseline_that_is_not_in_the_profile(runs: Path, profile: Profile) -> None:
    with pytest.raises(InputError, match=r"study\.trainings"):
        baseline_step(profile, runs, "swin_unetr")

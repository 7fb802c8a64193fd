"""The whole ladder of labels, on a set that trains in seconds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import evaluate_step, map_step, train_step
from hgisam.runs.files import read_json, write_json
from hgisam.runs.steps import Run
from hgisam_book import figures
from hgisam_book.recorded.runs import record_run
from hgisam_book.studies import label_budget_step, refine_step
from hgisam_book.studies.ladder import ladder_step
from hgisam_book.studies.method_comparison import dice_by_slice
from hgisam_book.studies.prices import label_of, price_ladder, read_prices
from hgisam_book.training_cohort import write_cohort_table
from tests.conftest import SMALL_UNET, TINY, make_prepared

EXAM = {"task": "binary", "train.epochs": 1}
TRAININGS = json.dumps({"unet": SMALL_UNET, "hgi_sam_refined": SMALL_UNET, "exam": EXAM})
METHODS = {
    "smooth_hu_threshold", "exam_hgi_sam", "exam_hgi_sam_otsu", "exam_grad_cam", "exam_swin_sam", "hgi_sam",
    "hgi_sam_otsu", "swin_sam", "grad_cam", "hgi_sam_density", "density_alone", "hgi_sam_refined", "self_trained_half",
    "box", "ball",
    "unet_1", "unet_2", "unet_all", "mixed_1", "mixed_2", "box_otsu", "sam_box", "slice_mil",
}  # fmt: skip


def test_labels_and_names() -> None:
    assert [label_of(name) for name in ("unet_3", "mixed_1", "box", "exam_grad_cam", "hgi_sam")] == [
        "mask", "slice and mask", "box", "exam", "slice",
    ]  # fmt: skip
    assert figures.ladder_name("unet_1") == "U-Net, 1 mask"
    assert figures.ladder_name("mixed_8") == "refined and U-Net, 8 masks"
    assert all(figures.ladder_name(name) for name in METHODS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the whole ladder: about twenty seconds, for nine networks."""
    runs = tmp_path_factory.mktemp("runs")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("test", "val"))):
        make_prepared(runs / "smoke" / "prepared" / name, patients=16, splits=splits, seed=len(name))
    options = [*TINY, f"study.trainings={TRAININGS}", "study.label_budget=[1,2]", "train.epochs=1"]
    profile = load_profile("smoke", [*options, "maps.methods=[hgi_sam,swin_sam,grad_cam]"])
    train_step(profile, runs)
    map_step(profile, runs)
    evaluate_step(profile, runs)
    label_budget_step(profile, runs)
    refine_step(profile, runs)
    write_cohort_table(Run(profile, runs), open_prepared(runs / "smoke" / "prepared" / "rsna"), None)
    ladder_step(profile, runs, systems=[other_system(runs / "smoke")])
    return runs / "smoke"


def other_system(run: Path) -> Path:
    """Maps of a system that has seen the masks: as a probability of 0.6, and of 0.4."""
    folder = run / "price" / "perfect" / "maps"
    root: Any = zarr.open_group(folder / "maps.zarr", mode="w")
    mask = open_prepared(run / "prepared" / "ct-ich").mask
    assert mask is not None
    for name, value in (("box_otsu", 0.6), ("sam_box", 0.4), ("slice_mil", 0.4), ("unknown", 1.0)):
        root.create_array(name, data=(value * (mask[:] > 0)).astype(np.float16))
    made = {key: {} for key in ("inputs", "packages")} | {"outputs": {"maps.zarr": "0"}, "step": "price/perfect/maps"}
    hardware = {"processor": "", "cores": 1, "memory_gib": 1, "gpu": []}
    profile = {"name": "smoke", "train": {}, "model": {}, "compute": {}}
    write_json(folder / "manifest.json", {**made, "hardware": hardware, "profile": profile})
    return folder


def test_maps_of_other_systems_are_rows_too(run: Path) -> None:
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet").groupby("method")["dice"].mean()
    assert dice["box_otsu"] == 1  # at one half
    assert dice["sam_box"] == 0  # likewise, below
    assert dice["slice_mil"] == 1  # at a threshold chosen on masks
    units = read_json(run / "price" / "table" / "units.json")
    assert set(units["sam_box"]["selection"]) == {"box"}
    assert set(units["slice_mil"]["selection"]) == {"slice", "mask"}


def test_every_method_is_tested_on_the_same_slices(run: Path) -> None:
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet")
    rows = dice.groupby("method")["row"].agg(lambda values: tuple(sorted(values)))
    assert set(rows.index) == METHODS
    assert rows.nunique() == 1
    assert len(rows.iloc[0]) == len(set(rows.iloc[0])) > 0
    assert dice["dice"].between(0, 1).all()
    labels = pd.read_parquet(run / "price" / "table" / "labels.parquet")
    assert labels.groupby("method")["dice"].mean().to_dict()["box"] > 0.8  # a bright square is what its box holds


def test_masks_of_scans_without_a_bleed(run: Path) -> None:
    masks = pd.read_parquet(run / "price" / "table" / "masks.parquet")
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet")
    data = open_prepared(run / "prepared" / "ct-ich")
    assert set(masks["method"]) == METHODS
    rows = masks.groupby("method")["row"].agg(lambda values: tuple(sorted(values)))
    assert rows.nunique() == 1
    bleeding = data.slices["study"].iloc[masks.loc[masks["bleeds"], "row"]]
    healthy = data.slices["study"].iloc[masks.loc[~masks["bleeds"], "row"]]
    assert not set(bleeding) & set(healthy)
    assert len(healthy)
    assert set(masks.loc[masks["bleeds"], "row"]) == set(dice["row"])
    perfect = masks[masks["method"] == "box_otsu"]
    assert (perfect["mask_ml"] > 0).tolist() == perfect["bleeds"].tolist()
    scores = pd.read_parquet(run / "maps" / "scores.parquet").set_index("row")["score"]
    weak = masks[masks["method"] == "hgi_sam"]
    assert weak["score"].tolist() == scores[weak["row"]].tolist()
    threshold = load_checkpoint(run / "train").detection_threshold
    assert not weak.loc[weak["score"] < threshold, "mask_ml"].any()


def test_thresholds_are_those_of_the_other_chapters(run: Path) -> None:
    profile = load_profile("smoke", TINY)
    data, maps = open_prepared(run / "prepared" / "ct-ich"), read_score_maps(run / "maps" / "maps.zarr")
    expected = dice_by_slice(data, maps, ["hgi_sam"], count=profile.evaluate.thresholds).set_index("row")["dice"]
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet")
    own = dice[dice["method"] == "hgi_sam"].set_index("row")["dice"]
    assert own.tolist() == expected[own.index].tolist()
    budget = pd.read_parquet(run / "baselines" / "label_budget" / "table" / "dice.parquet")
    for scans in ("1", "all"):
        own = dice[dice["method"] == f"unet_{scans}"].set_index("row")["dice"]
        expected = budget[budget["budget"] == scans].set_index("row")["dice"]
        assert own.tolist() == pytest.approx(expected[own.index].tolist())


def test_a_method_is_charged_for_what_it_used(run: Path) -> None:
    units = read_json(run / "price" / "table" / "units.json")
    assert set(units) == METHODS
    assert "mask" not in {label for name in ("box", "ball") for role in units[name].values() for label in role}
    assert set(units["hgi_sam"]["training"]) == {"slice"}
    assert set(units["hgi_sam"]["selection"]) == {"slice", "mask"}
    assert set(units["hgi_sam_otsu"]["selection"]) == set(units["self_trained_half"]["selection"]) == {"slice"}
    assert set(units["mixed_1"]["training"]) == {"slice", "mask"}
    assert units["unet_1"]["training"]["mask"]["bleeding scan"] == 1
    assert units["unet_2"]["training"]["mask"]["bleeding scan"] == 2
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet")
    minutes = price_ladder(dice, units, read_prices(), count=20, seed=0).set_index("method")["minutes"]
    assert minutes["exam_hgi_sam"] < minutes["hgi_sam"] < minutes["mixed_1"] < minutes["mixed_2"]
    assert minutes["ball"] < minutes["unet_all"]


def test_the_networks_of_the_ladder_can_be_recorded(run: Path, tmp_path: Path) -> None:
    record_run(run, tmp_path / "records" / "first", trainings=["price/*/*"])
    found = sorted(path.parent.name for path in (tmp_path / "records").rglob("model.safetensors"))
    assert found == ["fold-0", "fold-0", "fold-1", "fold-1", "swin"]

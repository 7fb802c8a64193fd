"""The price of labels: arithmetic by hand, and the whole ladder on a set that trains in seconds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.pipeline import evaluate_step, map_step, train_step
from hgisam.runs.files import read_json
from hgisam_book import figures
from hgisam_book.recorded.runs import record_run
from hgisam_book.studies import label_budget_step, refine_step
from hgisam_book.studies.price import (
    best_of_each_label,
    count_units,
    label_of,
    ladder_step,
    price_ladder,
    read_prices,
)
from tests.conftest import TINY, make_prepared

UNET = {
    "task": "segmentation", "train.monitor": "dice", "train.epochs": 1, "segmenter.channels": [8, 16],
    "train.batch_size": 4, "train.augment.hide": 0,
}  # fmt: skip
EXAM = {"task": "binary", "train.epochs": 1}
TRAININGS = json.dumps({"unet": UNET, "hgi_sam_refined": UNET, "exam": EXAM})
METHODS = {
    "smooth_hu_threshold", "exam_hgi_sam", "exam_hgi_sam_otsu", "exam_grad_cam", "exam_swin_sam", "hgi_sam",
    "hgi_sam_otsu", "swin_sam", "grad_cam", "hgi_sam_density", "hgi_sam_refined", "self_trained_half", "box", "ball",
    "unet_1", "unet_2", "unet_all", "mixed_1", "mixed_2",
}  # fmt: skip


def test_minutes_by_hand() -> None:
    prices = read_prices()
    units = {"scan": 10, "slice": 300, "bleeding scan": 4, "box": 60}
    assert prices.minutes("exam", units) == pytest.approx(10 * 5 / 60)
    assert prices.minutes("slice", units) == pytest.approx(300 * 3 / 60)
    assert prices.minutes("box", units) == pytest.approx((60 * 7 + 10 * 5) / 60)
    assert prices.minutes("ball", units) == pytest.approx((4 * 50 + 10 * 5) / 60)
    assert prices.minutes("mask", units) == pytest.approx((4 * 201.5 + 10 * 5) / 60)
    assert all(price.source for _, price in prices)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("exam: 3", "exam"), ("[]", "prices"), ("exam: {seconds: -1, per: scan, source: me}", "seconds"),
        ("exam: {seconds: 1, per: hour, source: me}", "per"), ("a: [", "yaml"), ("price: {}", "price"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_prices_is_one_error(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=problem):
        read_prices(path)
    with pytest.raises(InputError, match="nowhere"):
        read_prices(tmp_path / "nowhere.yaml")


def test_units_are_counted(tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=8))
    units = count_units(data, np.arange(12))  # two patients of six slices, the first bleeds in two of them
    assert units == {"scan": 2, "slice": 12, "bleeding scan": 1, "box": 2}


def test_the_frontier_by_hand() -> None:
    value = {"a": 0.2, "b": 0.1, "c": 0.4, "d": 0.4}
    dice = pd.DataFrame(
        [{"method": name, "patient": p, "dice": mean} for name, mean in
         zip(("hgi_sam_otsu", "exam_hgi_sam_otsu", "unet_all", "box"), value.values(), strict=True) for p in "xy"]
    )  # fmt: skip
    scans = {"scan": 1, "slice": 10, "bleeding scan": 1, "box": 4}
    units = {
        "hgi_sam_otsu": {"training": {"slice": scans}, "selection": {}},
        "exam_hgi_sam_otsu": {"training": {"slice": scans}, "selection": {"exam": scans}},
        "unet_all": {"training": {"mask": scans}, "selection": {"mask": scans}},
        "box": {"training": {"mask": scans}, "selection": {"mask": scans, "box": scans}},
    }
    ladder = price_ladder(dice, units, read_prices(), count=50, seed=0).set_index("method")
    assert ladder.index.tolist() == ["hgi_sam_otsu", "exam_hgi_sam_otsu", "unet_all", "box"]
    assert ladder["frontier"].tolist() == [True, False, True, False]
    assert ladder.loc["hgi_sam_otsu", "minutes"] == pytest.approx(0.5)
    assert ladder.loc["unet_all", "minutes"] == pytest.approx(2 * 206.5 / 60)
    assert (ladder["minutes"] == ladder["training"] + ladder["selection"]).all()
    assert best_of_each_label(ladder.reset_index())["label"].tolist()[0] == "exam"
    figure = figures.price_ladder(ladder.reset_index())
    assert "HGI-SAM, Otsu 0.20 for 0 minutes, U-Net, all masks 0.40 for 7 minutes" in figure.layout.meta["alt"]


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
    ladder_step(profile, runs)
    return runs / "smoke"


def test_every_method_is_tested_on_the_same_slices(run: Path) -> None:
    dice = pd.read_parquet(run / "price" / "table" / "dice.parquet")
    rows = dice.groupby("method")["row"].agg(lambda values: tuple(sorted(values)))
    assert set(rows.index) == METHODS
    assert rows.nunique() == 1
    assert len(rows.iloc[0]) == len(set(rows.iloc[0])) > 0
    assert dice["dice"].between(0, 1).all()
    labels = pd.read_parquet(run / "price" / "table" / "labels.parquet")
    assert labels.groupby("method")["dice"].mean().to_dict()["box"] > 0.8  # a bright square is what its box holds


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

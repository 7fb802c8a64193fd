"""Prices of labels and the frontier, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.data.labels import SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.metrics import detection
from hgisam_book import figures
from hgisam_book.figures.price import FREE_AT
from hgisam_book.studies.beyond_dice import auroc, ladder_measures
from hgisam_book.studies.prices import best_of_each_label, count_units, price_ladder, read_prices
from tests.conftest import make_prepared


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


def test_how_often_a_method_is_on_the_frontier() -> None:
    """Two patients: of four samples two have each of them alone, where one method or the other is better."""
    dice = pd.DataFrame(
        {"method": ["hgi_sam_otsu", "hgi_sam_otsu", "unet_all", "unet_all"], "patient": ["x", "y"] * 2,
         "dice": [0.9, 0.1, 0.2, 0.6]}
    )  # fmt: skip
    scans = {"scan": 1, "slice": 10, "bleeding scan": 1, "box": 4}
    units = {
        "hgi_sam_otsu": {"training": {"slice": scans}, "selection": {}},
        "unet_all": {"training": {"mask": scans}, "selection": {"mask": scans}},
    }
    ladder = price_ladder(dice, units, read_prices(), count=4000, seed=0).set_index("method")
    assert ladder["frontier"].tolist() == [True, False]
    assert ladder.loc["hgi_sam_otsu", "frontier_share"] == 1  # the cheapest always is
    assert ladder.loc["unet_all", "frontier_share"] == pytest.approx(0.25, abs=0.03)


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
    assert ladder["frontier_share"].tolist() == [1, 0, 1, 0]  # all patients are alike
    assert ladder.loc["hgi_sam_otsu", "minutes"] == pytest.approx(0.5)
    assert ladder.loc["unet_all", "minutes"] == pytest.approx(2 * 206.5 / 60)
    assert (ladder["minutes"] == ladder["training"] + ladder["selection"]).all()
    assert best_of_each_label(ladder.reset_index())["label"].tolist()[0] == "exam"
    measured = ladder.reset_index()[["method", "mean", "low", "high", "frontier"]].assign(measure="dice")
    figure = figures.price_ladder(ladder.reset_index(), measured)
    free = ladder.reset_index().assign(minutes=lambda table: table["minutes"].where(table.index > 0, 0.0))
    frontier, *points = figures.price_ladder(free, measured).data
    assert frontier.x[0] == FREE_AT  # on the page, where a logarithm of 0 would not be
    assert min(min(trace.x) for trace in points) == FREE_AT
    assert "HGI-SAM, Otsu 0.20 for 0 minutes, U-Net, all masks 0.40 for 7 minutes" in figure.layout.meta["alt"]


def test_measures_by_hand() -> None:
    """Two methods on a scan that bleeds in one of two slices and one that does not; the first costs more."""
    slices = pd.DataFrame(0, index=range(4), columns=list(SUBTYPES)).assign(study=["b", "b", "h", "h"])
    slices.loc[0, "epidural"] = 1
    patient = pd.Series(["x", "y", "y"])
    tables, masks = [], []
    for method, dice, ml, score in (("unet_all", 0.8, [3, 0, 1], [3, 0, 1]), ("box", 0.6, [1, 2, 2], [1, 2, 2])):
        tables.append(pd.DataFrame({"method": method, "patient": ["x"], "row": [0], "dice": [dice]}))
        about = {"method": method, "patient": patient, "row": [0, 2, 3], "bleeds": [True, False, False]}
        masks.append(pd.DataFrame({**about, "mask_ml": ml, "score": score}))
    minutes = pd.Series({"unet_all": 20.0, "box": 10.0})
    options = {"count": 20, "seed": 0}
    found = ladder_measures(pd.concat(tables), pd.concat(masks), slices, minutes, **options)
    value = found.set_index(["method", "measure"])
    assert value.loc[("unet_all", "dice"), "mean"] == value.loc[("unet_all", "epidural"), "mean"] == 0.8
    assert "subdural" not in set(found["measure"])  # no slice has it
    assert value.loc[("unet_all", "false_positive_ml"), ["mean", "n"]].tolist() == [1, 1]  # of one scan
    assert value.loc[("box", "false_positive_ml"), "mean"] == 4
    assert value.loc[("unet_all", "auroc"), "mean"] == 1
    assert value.loc[("box", "auroc"), "mean"] == 0
    assert value["frontier"].all()  # the dearer one is better in all of them, the cheaper one is cheaper
    minutes_now = minutes.where(minutes.index == "box", 5.0)
    dear = ladder_measures(pd.concat(tables), pd.concat(masks), slices, minutes_now, **options)
    assert dear[dear["method"] == "box"]["frontier"].sum() == 0
    figure = figures.price_ladder(small_ladder(minutes), found)
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == [
        "Dice per slice", "Dice, epidural alone", "false positives, ml per scan", "AUROC of slices",
    ]  # fmt: skip
    changes, titles = buttons[2].args
    assert changes["y"] == [[4.0, 1.0], [4.0], [1.0]]  # frontier, boxes, masks
    assert titles["yaxis.title.text"] == "false positives, ml per scan"


def small_ladder(minutes: pd.Series) -> pd.DataFrame:
    """The columns of a ladder that its figure reads."""
    ladder = pd.DataFrame({"method": ["box", "unet_all"], "label": ["box", "mask"], "mean": [0.6, 0.8]})
    return ladder.assign(minutes=minutes[ladder["method"]].to_numpy(), frontier=True)


def test_the_auroc_of_all_samples_at_once_is_that_of_the_detection_metrics() -> None:
    rng = np.random.default_rng(0)
    bleeds = rng.random(200) < 0.3
    score = np.round(rng.random(200) + 0.5 * bleeds, 1)  # with ties
    table = pd.DataFrame({"patient": rng.integers(0, 12, 200).astype(str), "bleeds": bleeds, "score": score})
    expected = detection(table.assign(any=bleeds.astype(int)), 0.5, count=100, seed=3)["auroc"]
    found = auroc(table, count=100, seed=3)
    assert found["mean"] == pytest.approx(expected["mean"])
    assert found["ci95"] == pytest.approx(expected["ci95"])
    assert auroc(table[table["bleeds"]], count=100, seed=3) == {"mean": None, "ci95": None}

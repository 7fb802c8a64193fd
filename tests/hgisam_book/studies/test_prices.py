"""Prices of labels and the frontier, by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam_book import figures
from hgisam_book.figures.price import FREE_AT
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
    figure = figures.price_ladder(ladder.reset_index())
    free = ladder.reset_index().assign(minutes=lambda table: table["minutes"].where(table.index > 0, 0.0))
    frontier, *points = figures.price_ladder(free).data
    assert frontier.x[0] == FREE_AT  # on the page, where a logarithm of 0 would not be
    assert min(min(trace.x) for trace in points) == FREE_AT
    assert "HGI-SAM, Otsu 0.20 for 0 minutes, U-Net, all masks 0.40 for 7 minutes" in figure.layout.meta["alt"]

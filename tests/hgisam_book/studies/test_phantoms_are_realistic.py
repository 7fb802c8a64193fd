"""The phantom generator held to values of real heads. It simulates scans, so it takes longer."""

from pathlib import Path

import pandas as pd
import pytest

from data_prep import prepare, write_phantom
from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam_book.studies.real_values import OUTSIDE, compare_with_real, read_real_heads
from hgisam_book.studies.realism import per_slice, summarize

PATIENTS = 8
REAL = read_real_heads()
INNER = [f"rim_{mm}" for mm in (3, 4, 5, 6, 8, 10, 13, 15)]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Statistics of a small evaluation cohort, prepared as for training."""
    folder = Path(tmp_path_factory.mktemp("phantoms"))
    raw = write_phantom(folder / "raw", layout="ct-ich", patients=PATIENTS, seed=5, jobs=1)
    settings = load_profile("laptop").data
    prepare("ct-ich", raw, folder / "prepared", **settings.model_dump(), seed=1, workers=1)
    return summarize(per_slice(open_prepared(folder / "prepared")))


def test_the_rim_falls_as_in_real_heads(statistics: pd.DataFrame) -> None:
    compared = compare_with_real(statistics, REAL.pixel_mm, REAL)
    assert compared.loc[compared["verdict"] == OUTSIDE].index.intersection(INNER).empty


def test_no_dark_ring_beside_the_skull(statistics: pd.DataFrame) -> None:
    profiles = pd.DataFrame(REAL.rim.profiles, index=REAL.rim.from_mm)
    for mm in (
        1,
        2,
    ):  # where heads differ most: between the lowest and the highest real one
        low, high = profiles.loc[mm].min() - 3, profiles.loc[mm].max() + 3
        assert low < statistics.loc[f"rim_{mm}", "mean"] < high
    assert statistics.loc["rim_2", "mean"] > statistics.loc["rim_5", "mean"]


def test_noise_and_core_are_those_of_real_heads(statistics: pd.DataFrame) -> None:
    compared = compare_with_real(statistics, REAL.pixel_mm, REAL)
    outside = compared.index[compared["verdict"] == OUTSIDE]
    assert outside.intersection(["noise", "core_5", "core_50", "core_95", "rim_spread"]).empty


def test_slices_differ_as_much_as_real_ones(statistics: pd.DataFrame) -> None:
    assert statistics.loc["rim_spread", "mean"] >= 5.0  # of one scanner; real slices of several: 6 to 9
    assert statistics.loc["noise", "high"] / statistics.loc["noise", "low"] > 1.3

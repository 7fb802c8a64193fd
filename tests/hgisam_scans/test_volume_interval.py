"""The conformal interval, by hand and by simulation."""

import numpy as np
import pytest

from hgisam_scans.volume_interval import calibrate_interval


def test_the_bounds_are_order_statistics_by_hand() -> None:
    """Of 19 ratios, the 95 % bound with one more patient is the largest: rank ceil(20 · 0.95) = 19."""
    true = np.arange(1, 20, dtype=float)  # predicted 1 ml: ratios (true + 1) / 2
    found = calibrate_interval([1.0] * 19, true.tolist())
    assert (found.low_ratio, found.high_ratio, found.found) == (pytest.approx(1.0), 10.0, 19)
    assert found.of(1.0) == pytest.approx((1.0, 19.0))


def test_too_few_patients_give_no_interval() -> None:
    found = calibrate_interval([1.0] * 18, [1.0] * 18)
    assert (found.low_ratio, found.of(1.0), found.of(0.0), found.covered) == (None, None, None, None)


def test_where_nothing_was_found_there_is_an_upper_bound() -> None:
    """Rank ceil(10 · 0.9) = 9 of 9."""
    found = calibrate_interval([0.0] * 9, [float(ml) for ml in range(9)])
    assert found.of(0.0) == (0.0, 8.0)


def test_new_patients_are_covered_as_promised() -> None:
    rng = np.random.default_rng(0)

    def cohort(count: int) -> tuple[np.ndarray, np.ndarray]:
        true = rng.lognormal(2, 1, count)
        return true * rng.lognormal(0.3, 0.5, count), true

    predicted, true = cohort(200)
    found = calibrate_interval(predicted.tolist(), true.tolist())
    new, truth = cohort(4000)
    bounds = np.array([found.of(ml) for ml in new])
    covered = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    assert covered == pytest.approx(0.9, abs=0.04)
    assert found.covered == pytest.approx(0.9, abs=0.04)

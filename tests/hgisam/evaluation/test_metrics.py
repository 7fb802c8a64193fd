"""Metrics calculated by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam.evaluation import metrics


def _options(seed: int = 0) -> dict[str, Any]:
    return {"count": 400, "seed": seed}


def test_dice_and_iou() -> None:
    assert metrics.dice(2, 3, 5) == 0.5
    assert metrics.iou(2, 3, 5) == pytest.approx(1 / 3)
    assert metrics.dice(0, 0, 0) == metrics.iou(0, 0, 0) == 1


def test_bootstrap_resamples_patients_not_slices() -> None:
    values = pd.Series([0.0] * 50 + [1.0] * 50)
    two = metrics.bootstrap_mean(values, pd.Series(["a"] * 50 + ["b"] * 50), **_options())
    assert two == {"mean": 0.5, "ci95": [0.0, 1.0]}
    many = metrics.bootstrap_mean(values, pd.Series(range(100)), **_options())
    assert 0.38 < many["ci95"][0] < 0.44 < 0.56 < many["ci95"][1] < 0.62
    assert metrics.bootstrap_mean(values[:0], pd.Series([], dtype=str), **_options()) == {"mean": None, "ci95": None}


def test_detection_by_hand() -> None:
    table = pd.DataFrame(
        {"patient": list("aabbcc"), "any": [0, 1, 0, 1, 0, 1], "score": [0.1, 0.9, 0.6, 0.4, 0.2, 0.8]}
    )
    result = metrics.detection(table, 0.5, **_options())
    assert result["auroc"]["mean"] == pytest.approx(8 / 9)
    assert (
        result["sensitivity"]["mean"] == result["specificity"]["mean"] == result["f1"]["mean"] == pytest.approx(2 / 3)
    )
    assert (result["n_slices"], result["n_positive"], result["n_patients"]) == (6, 3, 3)
    assert result["auroc"]["ci95"][0] <= 8 / 9 <= result["auroc"]["ci95"][1]
    one_class = metrics.detection(table[table["any"] == 1], 0.5, **_options())
    assert one_class["auroc"] == {"mean": None, "ci95": None}


def test_paired_test_detects_a_small_but_consistent_difference() -> None:
    rng = np.random.default_rng(1)
    base = pd.Series(rng.random(30), index=[f"p{i}" for i in range(30)])
    better = (base + 0.05 + 0.01 * rng.random(30)).sample(frac=1, random_state=1)
    result = metrics.compare(better, base, **_options())
    assert 0.05 < result["ci95"][0] < result["difference"] < result["ci95"][1] < 0.06
    assert result["p_value"] < 1e-6
    assert metrics.compare(base, base, **_options())["p_value"] is None


def test_holm_by_hand() -> None:
    """Ordered 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; none may be below the one before."""
    assert metrics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert metrics.holm([0.5, None, 0.4]) == [1, None, 1]
    assert metrics.holm([0.02, None]) == [0.04, None]  # what could not be tested counts all the same
    assert metrics.holm([]) == []


def test_rank_biserial_by_hand() -> None:
    """Ranks of 0.1, -0.2, 0.3, 0.4 are 1 to 4: (1 + 3 + 4 - 2) / 10; ties share a rank, zeros have none."""
    assert metrics.rank_biserial(np.array([0.1, -0.2, 0.0, 0.3, 0.4])) == pytest.approx(0.6)
    assert metrics.rank_biserial(np.array([0.5, -0.5])) == 0
    assert metrics.rank_biserial(np.array([0.5, 0.1])) == 1
    assert metrics.rank_biserial(np.zeros(3)) is None


def test_effect_size_changes_sign_with_the_order_of_the_methods() -> None:
    rng = np.random.default_rng(2)
    a, b = (pd.Series(rng.random(12)) for _ in range(2))
    forth, back = metrics.compare(a, b, **_options()), metrics.compare(b, a, **_options())
    assert forth["effect_size"] == pytest.approx(-back["effect_size"])
    assert forth["p_value"] == back["p_value"]
    assert metrics.compare(a, a, **_options())["effect_size"] is None


def test_size_groups_include_their_lower_edge() -> None:
    found = metrics.size_groups(pd.Series([0.1, 4.9, 5.0, 15.0, 900.0]), (5, 15), "ml")
    assert found.tolist() == ["< 5 ml", "< 5 ml", "5–15 ml", "≥ 15 ml", "≥ 15 ml"]
    assert list(found.cat.categories) == metrics.size_names((5, 15), "ml")

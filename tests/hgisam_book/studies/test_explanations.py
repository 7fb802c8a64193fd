"""Quality of explanations: each metric by hand, a perfect map, and every method on a tiny network."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.predictor import SlicePredictor
from hgisam_book.studies.explanations import (
    CRITERIA,
    agreement_with_dice,
    gini,
    judge_explanations,
    mass_inside,
    sensitivity,
    top_inside,
)
from hgisam_book.studies.method_comparison import bleeding_rows
from tests.conftest import untrained
from tests.swins import QUICK


def judged(profile: Profile, model: nn.Module, prepared: PreparedDataset, methods: Any, most: int) -> pd.DataFrame:
    rows = bleeding_rows(prepared, "test", most=most, seed=0)
    options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed, "grid": threshold_grid(20)}
    return judge_explanations(SlicePredictor.of(untrained(model, profile), profile), prepared, methods, rows, **options)


def test_metrics_by_hand() -> None:
    values, bleed = np.array([0.0, 3.0, 1.0, 4.0]), np.array([False, True, False, True])
    assert sensitivity(values, values + np.array([0, 3, 4, 0])) == pytest.approx(5 / np.sqrt(26))
    assert sensitivity(0 * values, values) == 1
    assert sensitivity(0 * values, 0 * values) == 0
    assert mass_inside(values, bleed) == 7 / 8
    assert mass_inside(0 * values, bleed) == 0.5
    assert top_inside(values, bleed) == 1
    assert top_inside(-values, bleed) == 0
    assert top_inside(np.array([0.0, 1.0, 1.0, 2.0]), bleed) == 0.75  # one of two that tie
    assert top_inside(0 * values, bleed) == 0.5
    assert top_inside(values, bleed & False) == 0
    assert gini(np.ones(7)) == pytest.approx(0)
    assert gini(np.eye(10)[0]) == pytest.approx(0.9)
    assert gini(values) == pytest.approx(np.abs(values[:, None] - values).sum() / (2 * 4 * values.sum()))
    assert gini(0 * values) == 0


def test_metrics_of_quantus() -> None:
    """What Quantus 0.6 finds for the same map: its values, since it would replace the OpenCV of the environment."""
    values = np.random.default_rng(0).random((16, 16))
    bleed = np.zeros((16, 16), bool)
    bleed[4:9, 5:11] = True
    values[bleed] += 0.4
    values, bleed = values.flatten(), bleed.flatten()
    assert mass_inside(values, bleed) == pytest.approx(0.19620661, abs=1e-6)
    assert top_inside(values, bleed) == pytest.approx(0.53333333, abs=1e-6)
    assert gini(values) == pytest.approx(0.32487546, abs=1e-6)


def test_a_map_of_the_bleed_is_judged_better_than_its_opposite(
    tiny: Profile, tiny_model: nn.Module, prepared: PreparedDataset
) -> None:
    def bright(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return images[:, 0].clamp(0, 1)  # the bleed is 40 HU above the brain

    def dark(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return 1 - bright(model, images, target)

    table = judged(tiny, tiny_model, prepared, {"bright": bright, "dark": dark}, most=4)
    means = table.pivot(index="metric", columns="method", values="mean")
    for metric in ("mass in the bleed", "top pixels in the bleed", "dice"):
        assert means.loc[metric, "bright"] > means.loc[metric, "dark"]
    assert means.loc["top pixels in the bleed", "bright"] > 0.9
    assert means.loc["rank correlation", "bright"] == pytest.approx(1)  # it does not look at the network
    assert means.loc["sensitivity", "bright"] > 0
    opposite = means.loc["insertion less deletion"]
    assert opposite["bright"] == pytest.approx(-opposite["dark"], abs=0.02)


def test_every_method_is_judged_by_every_criterion(
    tiny: Profile, tiny_model: nn.Module, prepared: PreparedDataset
) -> None:
    with torch.no_grad():  # as after a training: no longer its initial weights
        for parameter in tiny_model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    table = judged(tiny, tiny_model, prepared, QUICK, most=2)
    assert list(table.columns) == ["method", "metric", "mean", "low", "high"]
    assert list(table["method"].unique()) == list(QUICK)
    assert set(table["metric"]) == {*CRITERIA, "dice"}
    assert len(table) == len(QUICK) * 7
    assert np.isfinite(table[["mean", "low", "high"]]).all(axis=None)
    again = judged(tiny, tiny_model, prepared, {"grad_cam": QUICK["grad_cam"]}, most=2)  # beside others or alone
    pd.testing.assert_frame_equal(again, table[table["method"] == "grad_cam"].reset_index(drop=True))


def test_agreement_with_dice_by_hand() -> None:
    means = {"a": (0.1, 0.9), "b": (0.2, 0.5), "c": (0.3, 0.1)}  # dice, and every other metric
    rows = [
        {"method": method, "metric": metric, "mean": dice if metric == "dice" else other}
        for method, (dice, other) in means.items()
        for metric in (*CRITERIA, "dice")
    ]
    found = agreement_with_dice(pd.DataFrame(rows))
    assert list(found.index) == list(CRITERIA)
    for metric, (criterion, more) in CRITERIA.items():
        assert found.loc[metric, "spearman"] == pytest.approx(-1 if more else 1)
        assert found.loc[metric, "criterion"] == criterion
    tied = pd.DataFrame([row | {"mean": 0.5} for row in rows])
    assert agreement_with_dice(tied)["spearman"].isna().all()

"""Sanity checks: similarity and hits by hand, cascading randomization, and all checks on a tiny network."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import threshold_grid
from hgisam.evaluation.metrics import hit
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.maps import hgi_sam, swin_sam
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import build_network
from hgisam_book.studies.method_comparison import bleeding_rows
from hgisam_book.studies.sanity import (
    POINTING_MM,
    SHUFFLED,
    TRAINED,
    cascading_randomization,
    map_similarity,
    pointing_game,
    randomized_networks,
    sanity_checks,
)
from tests.conftest import untrained


def options(profile: Profile) -> dict[str, Any]:
    return {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}


@pytest.fixture
def checkpoint(tiny: Profile, tiny_model: nn.Module) -> Checkpoint:
    with torch.no_grad():  # as after a training: no longer its initial weights
        for parameter in tiny_model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return untrained(tiny_model, tiny)


def test_similarity_by_hand() -> None:
    a = np.arange(64, dtype=np.float32).reshape(8, 8)
    inside = np.ones((8, 8), bool)
    assert map_similarity(a, a, inside) == pytest.approx((1, 1))
    assert map_similarity(a, 1e-6 * a**3, inside) == pytest.approx((1, 1))  # only the order counts
    backwards = map_similarity(a, -a, inside)
    assert backwards[0] == pytest.approx(-1)
    assert backwards[1] < 0
    assert map_similarity(a, np.zeros_like(a), inside) == (0, 0)
    assert map_similarity(a, a, ~inside) == (0, 0)
    changed = a.copy()
    changed[:, 4:] = changed[:, 4:][:, ::-1]
    left = inside.copy()
    left[:, 4:] = False
    assert map_similarity(a, changed, left)[0] == pytest.approx(1)  # pixels outside do not count


def test_hits_by_hand() -> None:
    truth, inside = np.zeros((6, 6), bool), np.ones((6, 6), bool)
    truth[2, 2] = True
    values = np.zeros((6, 6), np.float32)
    values[2, 4] = 1
    assert [hit(values, truth, inside, 2.0, within_mm=mm) for mm in (0, 3.9, 4)] == [0, 0, 1]
    values[2, 2] = 1
    assert hit(values, truth, inside, 2.0, within_mm=0) == 0.5  # one of two maxima
    assert hit(np.zeros((6, 6), np.float32), truth, inside, 2.0, within_mm=0) == pytest.approx(1 / 36)
    outside = inside.copy()
    outside[2, 4] = False
    assert hit(values, truth, outside, 2.0, within_mm=0) == 1
    assert hit(values, truth, ~inside, 2.0, within_mm=0) == 0


def test_weights_are_randomized_from_the_head_down(checkpoint: Checkpoint) -> None:
    trained = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    steps = list(randomized_networks(checkpoint, seed=1))
    assert [name for name, _ in steps] == ["head", "stage 4", "stage 3", "stage 2", "stage 1", "patches"]

    def changed(network: Checkpoint) -> set[str]:
        return {key for key, value in network.model.state_dict().items() if not torch.equal(value, trained[key])}

    sets = [changed(network) for _, network in steps]
    assert all(key.startswith(("head.", "norm.")) for key in sets[0])
    assert all(smaller < larger for smaller, larger in pairwise(sets))
    assert sets[-1] == {key for key in trained if "index" not in key and "mask" not in key}
    assert not changed(checkpoint)
    again = next(iter(randomized_networks(checkpoint, seed=1)))[1].model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in steps[0][1].model.state_dict().items())
    state = torch.random.get_rng_state()
    list(randomized_networks(checkpoint, seed=2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_maps_during_cascading_randomization(checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    rows = bleeding_rows(prepared, "test", most=100, seed=0)
    torch.manual_seed(9)
    other = untrained(build_network(tiny).eval(), tiny)
    methods = {"hgi_sam": hgi_sam, "swin_sam": swin_sam}
    predictor, grid = SlicePredictor.of(checkpoint, tiny), threshold_grid(tiny.evaluate.thresholds)
    table = cascading_randomization(predictor, prepared, methods, rows, grid=grid, shuffled=other, **options(tiny))
    steps = ["trained", "head", "stage 4", "stage 3", "stage 2", "stage 1", "patches", "shuffled labels"]
    assert list(dict.fromkeys(table["at"])) == steps
    mean = table.pivot(index=["method", "at"], columns="metric", values="mean")
    for name in methods:
        assert mean.loc[(name, TRAINED), ["spearman", "ssim"]].tolist() == pytest.approx([1, 1])
        assert mean.loc[(name, "patches"), "spearman"] < 0.8
        assert mean.loc[(name, SHUFFLED), "spearman"] < 0.8
    assert mean.loc[("hgi_sam", "head"), "spearman"] < 0.9999
    assert mean.loc[("swin_sam", "head"), "spearman"] == pytest.approx(1)  # nothing below the head has changed


def test_pointing_game_of_a_perfect_map_and_of_chance(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset
) -> None:
    rows = bleeding_rows(prepared, "test", most=100, seed=0)

    def bright(model: nn.Module, images: torch.Tensor, target: int) -> torch.Tensor:
        return images[:, 0]  # the brightest channel: the bleed is 40 HU above the brain

    found = pointing_game(SlicePredictor.of(checkpoint, tiny), prepared, {"bright": bright}, rows, **options(tiny))
    table = found.set_index(["method", "at"])["mean"]
    assert table[("bright", "0 mm")] == 1
    assert prepared.mask is not None
    truth, brain = prepared.mask[rows] > 0, prepared.brain[rows] > 0
    chance = ((truth & brain).sum(axis=(1, 2)) / brain.sum(axis=(1, 2))).mean()
    assert table[("chance", "0 mm")] == pytest.approx(chance)
    assert table[("chance", "5 mm")] >= chance


def test_all_checks_in_one_table(checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset) -> None:
    rows = bleeding_rows(prepared, "test", most=100, seed=0)
    predictor, grid = SlicePredictor.of(checkpoint, tiny), threshold_grid(tiny.evaluate.thresholds)
    table = sanity_checks(predictor, prepared, methods_of(tiny.maps), rows, grid=grid, **options(tiny))
    assert list(table.columns) == ["test", "method", "at", "metric", "mean", "low", "high"]
    assert list(dict.fromkeys(table["test"])) == ["randomization", "deletion", "insertion", "pointing game"]
    assert set(tiny.maps.methods) <= set(table["method"])
    assert SHUFFLED not in set(table["at"])
    assert (table["test"] == "pointing game").sum() == (len(tiny.maps.methods) + 1) * len(POINTING_MM)
    assert np.isfinite(table[["mean", "low", "high"]]).all(axis=None)

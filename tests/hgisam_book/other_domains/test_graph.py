"""Head-wise gradient weighting on a graph: planted edges, the learner, and what one head must give."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hgisam.config import load_profile
from hgisam.errors import InputError
from hgisam_book.other_domains import graph
from hgisam_book.other_domains.graph import (
    NODES,
    GraphLearner,
    chebyshev,
    edge_auroc,
    edge_maps,
    edge_recovery,
    graph_step,
    matching,
    plant,
    record,
)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_each_node_has_one_partner_and_no_edge_is_a_decoy() -> None:
    partner = matching(generators(0)[0], 5)
    nodes = torch.arange(NODES).expand(5, NODES)
    assert (partner != nodes).all()
    assert (partner.gather(-1, partner) == nodes).all()
    planted = plant(generators(0, 1, 2))
    assert (planted.edges != planted.decoys).all()


def test_only_class_edges_tell_the_classes_apart() -> None:
    planted = plant(generators(0))
    signals, classes = record(planted, 400, generators(1))
    assert torch.allclose(signals.mean(dim=-1), torch.zeros(()), atol=1e-5)
    correlation = torch.einsum("sbnt,sbmt->sbnm", signals, signals)[0] / (graph.TIMES - 1)
    nodes = torch.arange(NODES)

    def mean_of(partner: torch.Tensor, label: int) -> float:
        return float(correlation[classes[0] == label][:, nodes, partner[0]].mean())

    assert mean_of(planted.edges, 1) > 0.15
    assert abs(mean_of(planted.edges, 0)) < 0.05
    assert abs(mean_of(planted.decoys, 1) - mean_of(planted.edges, 1)) < 0.05  # as strong
    assert abs(mean_of(planted.decoys, 1) - mean_of(planted.decoys, 0)) < 0.05  # whatever the class


def test_chebyshev_is_that_of_the_rescaled_laplacian() -> None:
    torch.manual_seed(0)
    windows, attention = torch.randn(1, 1, 3, 1, 2), torch.rand(1, 1, 1, 3, 3).softmax(dim=-1)
    own, neighbours, bias = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2)
    laplacian = torch.eye(3) - attention[0, 0, 0]
    signal = windows[0, 0, :, 0]
    by_hand = signal @ own[0, 0] + (laplacian - torch.eye(3)) @ signal @ neighbours[0, 0] + bias[0, 0]
    assert torch.allclose(chebyshev(windows, attention, own, neighbours, bias)[0, 0, 0, :, 0], by_hand, atol=1e-6)


def test_auroc_of_a_map_that_knows_the_edges_of_one_that_prefers_decoys_and_of_none() -> None:
    planted = plant(generators(3))
    edges, decoys = (torch.nn.functional.one_hot(partner, NODES).double() for partner in planted)
    maps = torch.stack([edges, edges + 2 * decoys, torch.zeros_like(edges)], dim=1)
    found = edge_auroc(maps, planted)
    assert found["decoys"].tolist() == [[1.0, 0.0, 0.5]]
    assert found["all other pairs"][0].tolist() == pytest.approx([1.0, 1 - 16 / 480, 0.5])


def test_one_head_makes_the_weight_a_constant_factor_and_changes_no_order() -> None:
    planted = plant(generators(4, 5))
    networks = GraphLearner(1, generators(4, 5))
    maps = edge_maps(networks, record(planted, 8, generators(6, 7))[0]).maps
    for method in ("hgi_weights", "hgi_scores"):
        assert not torch.equal(maps[method], maps["attention"])
        for against, auroc in edge_auroc(maps[method], planted).items():
            assert torch.equal(auroc, edge_auroc(maps["attention"], planted)[against])


def test_hgi_weights_are_norms_of_the_gradient_per_head_and_recording() -> None:
    planted = plant(generators(8))
    networks = GraphLearner(3, generators(8))
    signals, _ = record(planted, 2, generators(9))
    maps, attention, norms = edge_maps(networks, signals)
    logit, scores, weights = networks(signals)
    for at, tensor in {"weights": weights, "scores": scores}.items():
        (gradient,) = torch.autograd.grad(logit.sum(), tensor, retain_graph=True)
        by_hand = torch.zeros(2, NODES, NODES, dtype=torch.float64)
        for recording in range(2):
            for head in range(3):
                norm = float(gradient[0, recording, head].square().sum().sqrt())
                by_hand[recording] += norm * attention[0, recording, head] / 3
        assert torch.allclose(maps[f"hgi_{at}"][0], by_hand, rtol=1e-5)
    (gradient,) = torch.autograd.grad(logit.sum(), weights)
    assert torch.allclose(norms, gradient.flatten(3).norm(dim=3).double(), rtol=1e-5)


def test_training_recovers_edges_and_shuffled_classes_do_not() -> None:
    table = edge_recovery([2], heads=[4], steps=150)
    found = table[table["against"] == "decoys"].set_index(["labels", "method"])
    assert found.loc[("true", "best_head"), "auroc"] > 0.8
    assert found.loc[("true", "best_head"), "accuracy"] > 0.75
    assert 0.3 < found.loc[("permuted", "attention"), "auroc"] < 0.7
    assert found.loc[("permuted", "attention"), "accuracy"] < 0.75


def test_a_seed_gives_the_same_alone_and_beside_others() -> None:
    alone, together = (edge_recovery(seeds, heads=[2], steps=3) for seeds in ([1], [0, 1]))
    same = together[together["seed"] == 1].reset_index(drop=True)
    assert np.allclose(alone["auroc"], same["auroc"], atol=1e-3)
    pd.testing.assert_frame_equal(alone, edge_recovery([1], heads=[2], steps=3))


@pytest.mark.parametrize("wrong", [{"seeds": []}, {"seeds": [1], "heads": []}, {"seeds": [1], "steps": 0}])
def test_nothing_to_do_is_one_error(wrong: dict[str, list[int]]) -> None:
    with pytest.raises(InputError, match="1 or more"):
        edge_recovery(**wrong)  # type: ignore[arg-type]


def test_the_step_keeps_recovery_and_an_example(tmp_path: Path) -> None:
    profile = load_profile("smoke", ["study.trainings.graph={study.seeds: [3], train.epochs: 2}"])
    folder = graph_step(profile, tmp_path)
    assert set(pd.read_parquet(folder / "recovery.parquet")["heads"]) == {1, 4}
    example = np.load(folder / "example.npz")
    maps = dict(zip(example["names"].tolist(), example["maps"], strict=True))
    assert maps["class edges"].sum() == maps["decoys"].sum() == NODES
    assert np.allclose(maps["attention"].sum(axis=1), 1)

"""Learning-rate schedule, weight decay, and the frozen backbone of linear probing."""

import numpy as np
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.models.networks import build_network
from hgisam.training.optimizer import freeze_backbone, learning_rate, make_optimizer
from tests.conftest import TINY


def test_warm_up_and_cosine_decay() -> None:
    schedule = ["train.warmup_epochs=1", "train.epochs=3", "train.learning_rate=1.0"]
    settings = load_profile("smoke", [*TINY, *schedule]).train
    np.testing.assert_allclose([learning_rate(settings, e) for e in (0, 0.5, 1, 2, 3)], [0.01, 0.505, 1.0, 0.505, 0.01])
    probed = load_profile("smoke", [*TINY, *schedule, "train.epochs=5", "train.head_epochs=2"]).train
    rates = [learning_rate(probed, e) for e in (0, 1.9, 2, 2.5, 3, 4, 5)]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 0.01, 0.505, 1.0, 0.505, 0.01])


def test_norms_biases_and_tables_do_not_decay(tiny: Profile) -> None:
    model = build_network(tiny)
    decayed, others = make_optimizer(model, tiny.train).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (tiny.train.weight_decay, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)] for p in others["params"]}
    assert kept == {n for n in names.values() if "norm" in n or n.endswith("bias") or "relative_position" in n}
    assert len(decayed["params"]) + len(kept) == len(names)


def test_a_frozen_backbone_gets_no_gradient(tiny: Profile) -> None:
    model = build_network(tiny)
    for frozen in (True, False):
        freeze_backbone(model, frozen)
        model.zero_grad()
        model(torch.randn(2, 3, 32, 32)).sum().backward()
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
        assert trained == ({"head.fc.weight", "head.fc.bias"} if frozen else {n for n, _ in model.named_parameters()})

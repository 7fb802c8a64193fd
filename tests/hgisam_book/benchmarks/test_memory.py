"""Memory of training: counted by hand, and compared with what is allocated."""

import pytest
import torch
from torch import nn

from hgisam.config.profile import Profile
from hgisam_book.benchmarks.map_cost import peak_memory_mb
from hgisam_book.benchmarks.memory import training_memory


def test_two_layers_by_hand() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    images = torch.zeros(2, 3, requires_grad=True)
    counted = training_memory(network, images)
    weights = 4 * (3 * 5 + 5 + 5 * 2 + 2)
    assert counted["weights"] == counted["gradients"] == weights / 1e6
    assert counted["moments"] == (2 * weights + 4 * 4) / 1e6  # and a step count for each of four tensors
    assert counted["image"] == 4 * (3 + 5) / 1e6  # the first layer's input; the second's, which is the ReLU's output


def test_frozen_weights_need_no_gradient(tiny: Profile, tiny_model: nn.Module) -> None:
    images = torch.randn(2, len(tiny.windows), 32, 32)
    whole = training_memory(tiny_model, images)
    for name, parameter in tiny_model.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    head = training_memory(tiny_model, images)
    assert head["weights"] == whole["weights"]
    assert head["gradients"] < 0.05 * whole["gradients"]
    assert head["moments"] < 0.05 * whole["moments"]
    assert head["image"] < 0.05 * whole["image"]
    assert all(p.grad is None and p.device.type == "cpu" for p in tiny_model.parameters())


def test_activations_match_the_allocated_memory(tiny: Profile, tiny_model: nn.Module) -> None:
    images = torch.randn(12, len(tiny.windows), 32, 32)
    tiny_model.train()
    counted = training_memory(tiny_model, images[:2])["image"]
    peaks = [peak_memory_mb(lambda count=count: tiny_model(images[:count]), "cpu") for count in (4, 12)]
    assert counted == pytest.approx((peaks[1] - peaks[0]) / 8, rel=0.15)


def test_half_precision_saves_fewer_bytes(tiny: Profile, tiny_model: nn.Module) -> None:
    images = torch.randn(2, len(tiny.windows), 32, 32)
    full = training_memory(tiny_model, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = training_memory(tiny_model, images)
    assert half["image"] < 0.9 * full["image"]
    assert half["moments"] == full["moments"]

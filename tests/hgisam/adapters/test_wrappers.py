"""Wrapped models: the map is that of the model inside, or an error names the wrapper."""

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hgisam.errors import InputError
from hgisam.maps import METHODS, hgi_sam
from tests.libraries import large_weights, torchvision_swin, transformers_swin
from tests.swins import build


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", METHODS)
def test_data_parallel_is_understood(method: str) -> None:
    model, images = build("v1")
    expected = METHODS[method](model, images, 1)
    assert torch.equal(METHODS[method](DataParallel(copy.deepcopy(model)), images, 1), expected)


@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel_is_understood() -> None:
    model, images = build("v1")
    wrapped = DistributedDataParallel(copy.deepcopy(model))
    assert torch.equal(hgi_sam(wrapped, images, 1), hgi_sam(model, images, 1))
    assert all(parameter.requires_grad for parameter in wrapped.parameters())


@pytest.mark.parametrize("library", ["torchvision", "transformers"])
def test_compiled_models_of_other_libraries_are_understood(library: str) -> None:
    model = torchvision_swin("v1", 2) if library == "torchvision" else transformers_swin("v1", 32, 2)
    images = torch.randn(2, 3, 32, 32)
    expected = hgi_sam(large_weights(model), images, 1)
    assert torch.equal(hgi_sam(torch.compile(model, backend="eager"), images, 1), expected)


class LowRank(nn.Module):
    """A linear layer with a low-rank update beside it, as PEFT's LoRA replaces one."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.down = nn.Linear(base_layer.in_features, 2, bias=False)
        self.up = nn.Linear(2, base_layer.out_features, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.base_layer(tokens) + self.up(self.down(tokens))


def test_low_rank_adapters_are_understood() -> None:
    model, images = large_weights(transformers_swin("v1", 32, 2)), torch.randn(2, 3, 32, 32)
    merged = copy.deepcopy(model)
    for with_adapter, plain in list(zip(model.modules(), merged.modules(), strict=True)):
        if type(with_adapter).__name__ == "SwinAttention":
            low_rank = LowRank(with_adapter.q_proj)
            with torch.no_grad():
                plain.q_proj.weight += low_rank.up.weight @ low_rank.down.weight
            with_adapter.q_proj = low_rank
    maps = hgi_sam(model, images, 1)
    torch.testing.assert_close(maps, hgi_sam(merged, images, 1), rtol=0, atol=1e-4)


def test_gradient_checkpointing_of_transformers_is_understood() -> None:
    model, images = large_weights(transformers_swin("v1", 32, 2)), torch.randn(2, 3, 32, 32)
    expected = hgi_sam(model, images, 1)
    model.activation_checkpointing_enable()
    model.train()
    assert torch.equal(hgi_sam(model, images, 1), expected)
    assert model.is_activation_checkpointing


def traced(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: nn.Module = torch.jit.trace(model, torch.zeros(1, 3, 32, 32), check_trace=False)
    return module


def checkpointed(model: nn.Module) -> nn.Module:
    model.features[1][0] = checkpoint_wrapper(model.features[1][0])
    return model


def integers(model: nn.Module) -> nn.Module:
    weight = model.head.weight
    model.head.weight = nn.Parameter(weight.detach().to(torch.int8), requires_grad=False)
    return model


def sharded(model: nn.Module) -> nn.Module:
    """As FSDP2 makes it: the class of a module is replaced by one that is an FSDPModule too."""
    fsdp = type("FSDPModule", (), {})
    model.__class__ = type(f"FSDP{type(model).__name__}", (fsdp, type(model)), {})
    return model


REFUSED: dict[str, tuple[Callable[[Any], nn.Module], str]] = {
    "scripted": (traced, r"a scripted one \(torch.jit\)"),
    "fx": (torch.fx.symbolic_trace, r"a traced graph \(torch.fx\)"),
    "sharded": (sharded, r"one in shards \(FSDP\)"),
    "data parallel inside": (lambda model: nn.Sequential(DataParallel(model)), "DataParallel inside it"),
    "checkpoint wrapper": (checkpointed, "gradient checkpointing by CheckpointWrapper"),
    "meta": (lambda model: model.to("meta"), "weights on the meta device"),
    "quantised": (integers, "a quantised one"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_wrapper_that_hides_attention_is_refused_by_name(how: str) -> None:
    wrap, message = REFUSED[how]
    model = wrap(torchvision_swin("v1", 2))
    for method in METHODS.values():
        with pytest.raises(InputError, match=f"model: got {message}.*expected") as caught:
            method(model, torch.zeros(1, 3, 32, 32), 1)
        assert "\n" not in str(caught.value)
        assert re.search(r"\. (Use|Load|Take|Build) ", str(caught.value))


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_other_networks_are_an_error_that_says_what_to_give(name: str) -> None:
    model = timm.create_model(name, num_classes=2)
    with pytest.raises(
        InputError, match=r"0 Swin transformers in .*, expected one. Give a model with one Swin of timm"
    ):
        hgi_sam(model, torch.zeros(1, 3, 224, 224), 1)

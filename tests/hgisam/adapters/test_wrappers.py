"""Wrapped models: the map is that of the model inside, or an error names the wrapper."""

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hgisam.errors import InputError
from hgisam.maps import hgi_sam
from tests.libraries import PooledSwin, large_weights, torchvision_swin, transformers_swin
from tests.swins import QUICK, build


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", QUICK)
def test_data_parallel_is_understood(method: str) -> None:
    model, images = build("v1")
    expected = QUICK[method](model, images, 1)
    assert torch.equal(QUICK[method](DataParallel(copy.deepcopy(model)), images, 1), expected)


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


LORA = {  # library → a model, its layers that get low-rank updates
    "timm": (lambda: build("v1")[0], ["qkv", "proj"]),
    "transformers": (lambda: large_weights(transformers_swin("v1", 32, 2)), ["q_proj", "v_proj"]),
    "monai 3-D": (lambda: large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2))), ["qkv", "linear1"]),
}  # fmt: skip


@pytest.mark.parametrize("library", LORA)
def test_low_rank_adapters_of_peft_are_understood(library: str) -> None:
    make, layers = LORA[library]
    size = (1, 16, 16, 16) if library == "monai 3-D" else (3, 32, 32)
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    plain = hgi_sam(make(), images, 1)
    tuned = get_peft_model(make(), LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    maps = hgi_sam(tuned, images, 1)
    assert (maps - plain).abs().max() > 0.01
    trained = [name for name, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    torch.testing.assert_close(maps, hgi_sam(tuned.merge_and_unload(), images, 1), rtol=0, atol=1e-4)


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
    "integers": (integers, "a quantised one"),
    "quantised": (lambda model: quantize_dynamic(model, {nn.Linear}), "a quantised one"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_wrapper_that_hides_attention_is_refused_by_name(how: str) -> None:
    wrap, message = REFUSED[how]
    model = wrap(torchvision_swin("v1", 2))
    for method in QUICK.values():
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


class Needs(nn.Module):
    """A model that takes the age of the patient too, as an option or not."""

    def __init__(self, swin: nn.Module) -> None:
        super().__init__()
        self.swin = swin

    def forward(self, images: Tensor, age: Tensor) -> Tensor:
        logits: Tensor = self.swin(images) + age
        return logits


class Keyword(Needs):
    def forward(self, *, images: Tensor) -> Tensor:  # type: ignore[override]
        logits: Tensor = self.swin(images)
        return logits


class Optional(Needs):
    def forward(self, images: Tensor, age: Tensor | float = 0.0) -> Tensor:
        return super().forward(images, torch.as_tensor(age))


def test_a_model_that_takes_more_or_less_than_images_is_an_error_that_shows_its_signature() -> None:
    model, images = build("v1")
    for method in QUICK.values():
        for other, got in (
            (Needs(model), r"Needs with forward\(images: .*, age: .*\)"),
            (Keyword(model), r"Keyword with forward\(\*, images"),
            (nn.ModuleDict({"swin": model}), "ModuleDict with forward"),
        ):
            with pytest.raises(InputError, match=rf"model: got {got}.*expected forward\(images\). Wrap it"):
                method(other, images, 1)
    assert torch.equal(hgi_sam(Optional(model), images, 1), hgi_sam(model, images, 1))


@pytest.mark.parametrize("method", QUICK)
def test_what_is_no_model_or_no_function_is_an_error(method: str) -> None:
    model, images = build("v1")
    for other in (None, "weights.pt", type(model), model.state_dict()):
        with pytest.raises(InputError, match=r"model: got a .*, expected an nn.Module. Build the network"):
            QUICK[method](other, images, 1)
    with pytest.raises(InputError, match="logit: got a str, expected a function of the model's output"):
        QUICK[method](model, images, 1, logit="logits")


class Twice(nn.Module):
    """A model that calls its Swin on the image and on its mirror image."""

    def __init__(self, swin: nn.Module) -> None:
        super().__init__()
        self.swin = swin

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.swin(images) + self.swin(images.flip(-1))
        return logits


def test_a_swin_that_runs_twice_is_an_error() -> None:
    model, images = build("v1")
    with pytest.raises(InputError, match=r"for 12 of 6 blocks, expected one forward pass of the Swin. Let the model"):
        hgi_sam(Twice(model), images, 1)


def test_parametrized_weights_are_no_quantised_ones() -> None:
    model, images = build("v1")
    expected = hgi_sam(model, images, 1)
    nn.utils.parametrizations.weight_norm(model.layers[0].blocks[0].attn.qkv)
    torch.testing.assert_close(hgi_sam(model, images, 1), expected, rtol=0, atol=1e-4)

"""Swins of every library: the same weights give the same map, and what is recorded is exact."""

import copy
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models import FeatureListNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hgisam.adapters.protocol import LIBRARIES, find_adapter
from hgisam.attention import attention_gradients, find_swin, record_attention
from hgisam.errors import InputError
from hgisam.maps import ablation_cam, hgi_sam, score_cam
from hgisam.maps.combine import to_token_grid, to_windows
from tests.libraries import (
    PooledSwin,
    convert,
    large_weights,
    same_weights,
    segmenter,
    torchvision_swin,
    transformers_swin,
)
from tests.swins import ONE_OF_EACH, QUICK, build

PAIRS = [(library, name) for library in ("torchvision", "transformers") for name in ("v1", "v2")]


def volumes(*size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 1, *size, generator=torch.Generator().manual_seed(1))


def images(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


# grids that windows divide and do not divide, smaller than a window, and patches that images do not fill
MODELS: dict[str, Callable[[], tuple[Any, Tensor]]] = {
    "torchvision v1": lambda: (large_weights(torchvision_swin("v1", 2)), images(32, 32)),
    "torchvision v1 padded": lambda: (large_weights(torchvision_swin("v1", 4)), images(28, 44)),
    "torchvision v2 padded": lambda: (large_weights(torchvision_swin("v2", 4)), images(28, 44)),
    "transformers v1": lambda: (large_weights(transformers_swin("v1", 32, 2)), images(32, 32)),
    "transformers v1 padded": lambda: (large_weights(transformers_swin("v1", 72, 4)), images(71, 88)),
    "transformers v2 padded": lambda: (large_weights(transformers_swin("v2", 72, 4)), images(72, 88)),
    "monai 2-D padded": lambda: (large_weights(PooledSwin(2, window=(4, 4), patch=(2, 2))), volumes(28, 43)),
    "monai 3-D": lambda: (large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2))), volumes(32, 16, 16)),
    "monai 3-D padded": lambda: (large_weights(PooledSwin(3, window=(2, 3, 4), patch=(1, 2, 2))), volumes(5, 21, 28)),
    "monai SwinUNETR": lambda: (Pooled(segmenter()), volumes(64, 32, 32, count=1)),
}


class Pooled(nn.Module):
    """A segmenter whose logits are averaged over the volume."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, volumes: Tensor) -> Tensor:
        logits: Tensor = self.segmenter(volumes).flatten(2).mean(dim=2)
        return logits


class Watch(TorchFunctionMode):
    """Calls `see` with the number of each call of a function and its first argument; the result replaces it."""

    def __init__(self, function: Any, see: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.see, self.count = function, see, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is self.function:
            args = (self.see(self.count, args[0]), *args[1:])
            self.count += 1
        return func(*args, **(kwargs or {}))


def logits_of(model: nn.Module, given: Tensor) -> Tensor:
    output = model(given)
    logits: Tensor = getattr(output, "logits", output)
    return logits


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize(("library", "name"), PAIRS)
def test_the_same_weights_give_the_same_map_as_in_timm(library: str, name: str, method: str) -> None:
    model, other, given = same_weights(library, name)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(other, given), model(given), rtol=1e-5, atol=1e-5)
    expected = QUICK[method](model, given, 1)
    assert expected.std() > 0.01
    torch.testing.assert_close(QUICK[method](other, given, 1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [ablation_cam, score_cam])
@pytest.mark.parametrize(("library", "name"), PAIRS)
def test_the_last_stage_gives_the_same_map_where_channels_cancel(library: str, name: str, method: Any) -> None:
    """In float64; in float32 the libraries differ by the rounding of terms that sum to 1/275 of their size."""
    model, _ = build(name)
    given = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(2))[15:16]
    other = convert(model, library, name)
    rounded = [method(each, given, 1, batch_size=128) for each in (model, other)]
    expected, maps = (method(each.double(), given.double(), 1, batch_size=128) for each in (model, other))
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
    for each in rounded:
        torch.testing.assert_close(each, expected, rtol=0, atol=1e-3)
    assert name != "v1" or expected.amax() == 1


@pytest.mark.parametrize("name", MODELS)
def test_window_reverse_undoes_the_window_partition_of_every_block(name: str) -> None:
    """The first linear layer of attention sees windows; reversed to the grid, they are what the block partitioned."""
    model, given = MODELS[name]()
    swin = find_adapter(model)
    windows: list[Tensor] = []
    whole: list[Tensor] = []
    wanted = [False]

    def first_linear(_: int, tensor: Tensor) -> Tensor:
        if wanted[0] and tensor.ndim == 3:
            wanted[0] = False
            windows.append(tensor[..., 0])
        return tensor

    for block in (block for stage in swin.stages for block in stage):
        swin.attention_of(block).register_forward_pre_hook(lambda *_: wanted.__setitem__(0, True))
        if "v2" in name:  # res-post-norm
            block.register_forward_pre_hook(lambda _, given: whole.append(given[0][..., 0]))
        else:
            swin.norm(block, "norm1").register_forward_hook(lambda _, __, output: whole.append(output[..., 0]))
    with torch.no_grad(), record_attention(model, (0, 1, 2, 3)) as records, Watch(F.linear, first_linear):
        model(given)
    assert len(records) == len(windows) == len(whole) == 8
    for record, partitioned, tokens in zip(records, windows, whole, strict=True):
        grid = tokens.reshape(len(given), *record.grid)
        torch.testing.assert_close(to_token_grid(partitioned, record), grid)
        assert to_windows(grid, record).shape == partitioned.shape
        torch.testing.assert_close(to_token_grid(to_windows(grid, record), record), grid)


@pytest.mark.parametrize("gradient_at", ["scores", "weights"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "monai SwinUNETR"])
def test_gradients_of_every_block_are_finite_differences_of_the_logit(name: str, gradient_at: str) -> None:
    model, given = MODELS[name]()
    model, given = model.double(), given[:1].double()
    records, gradients = attention_gradients(model, given, 2, stages=(0, 1, 2, 3), gradient_at=gradient_at)
    step, function = (1e-2, F.softmax) if gradient_at == "scores" else (1e-3, F.dropout)
    if name.startswith("transformers"):
        model.config._attn_implementation = "eager"
    adapter = find_adapter(model)
    inside: list[int] = []
    blocks = [block for stage in adapter.stages for block in stage]
    for number, block in enumerate(blocks):
        adapter.attention_of(block).register_forward_pre_hook(lambda *_, number=number: inside.append(number))

    def logit(number: int, index: tuple[int, ...], change: float) -> float:
        inside.clear()
        pending = [True]

        def perturb(_: int, tensor: Tensor) -> Tensor:
            if pending[0] and inside and inside[-1] == number and tensor.shape[-1] == tensor.shape[-2]:
                pending[0] = False
                tensor = tensor.clone()
                tensor[index] += change
            return tensor

        with torch.no_grad(), Watch(function, perturb):
            return float(logits_of(model, given)[0, 2])

    for number, (record, gradient) in enumerate(zip(records, gradients, strict=True)):
        count, heads, n, _ = gradient.shape
        assert record.attention.shape == gradient.shape
        index = (count // 2, heads - 1, n // 3, n // 2)
        expected = (logit(number, index, step) - logit(number, index, -step)) / (2 * step)
        scale = float(gradient.abs().max())  # softmax of transformers v1 is in float32, whatever the model
        assert float(gradient[index]) == pytest.approx(expected, rel=1e-3, abs=1e-3 * scale + 1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_logits_stay_bit_equal_while_recording_and_nothing_is_left_behind(name: str) -> None:
    model, given = MODELS[name]()
    if name.startswith("transformers"):
        model.config._attn_implementation = "eager"
    with torch.no_grad():
        expected = logits_of(model, given)
    model.train()
    before = state_of(model)
    with torch.no_grad(), record_attention(model, (0, 1, 2, 3)) as records:
        found = logits_of(model, given)
    assert torch.equal(found, expected)
    assert len(records) == 8
    hgi_sam(model, given, 1)
    with pytest.raises(InputError, match="target"):
        hgi_sam(model, given, 9)
    assert state_of(model) == before
    assert not torch._C._len_torch_function_stack()


def state_of(model: nn.Module) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    names = ("training", "use_checkpoint", "use_flash_attention", "gradient_checkpointing")
    flags = [[getattr(module, name, None) for name in names] for module in model.modules()]
    config = getattr(model, "config", None)
    return [
        hooks,
        flags,
        getattr(config, "_attn_implementation", None),
        [(p.requires_grad, p.grad) for p in model.parameters()],
    ]


def test_fused_attention_of_transformers_is_eager_while_recording() -> None:
    fused, given = large_weights(transformers_swin("v1", 32, 2, attn_implementation="sdpa")), images(32, 32)
    eager = transformers_swin("v1", 32, 2, attn_implementation="eager")
    eager.load_state_dict(fused.state_dict())
    assert fused.config._attn_implementation == "sdpa"
    assert torch.equal(hgi_sam(fused, given, 1), hgi_sam(eager, given, 1))
    assert fused.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("hidden", ["use_checkpoint", "use_flash_attention"])
def test_checkpointing_and_flash_attention_of_monai_are_off_while_recording(hidden: str) -> None:
    model, given = MODELS["monai 3-D"]()
    expected = [QUICK[name](model, given, 1) for name in ("hgi_sam", "swin_sam")]
    for module in model.modules():
        if hasattr(module, hidden):
            setattr(module, hidden, True)
    before = state_of(model)
    for name, maps in zip(("hgi_sam", "swin_sam"), expected, strict=True):
        assert torch.equal(QUICK[name](model, given, 1), maps)
    assert state_of(model) == before


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", MODELS)
def test_batch_is_single_in_every_library(name: str, method: str) -> None:
    model, given = MODELS[name]()
    maps = QUICK[method](model, given, 1)
    assert maps.shape == (len(given), *given.shape[2:])
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert maps.max() == 1 or (maps.max() == 0 and method == "grad_cam")
    single = torch.cat([QUICK[method](model, one[None], 1) for one in given])
    torch.testing.assert_close(maps, single, rtol=1e-3, atol=1e-4)


def equal_slices() -> tuple[nn.Module, nn.Module, Tensor]:
    """A Swin in two dimensions, and one in three whose windows are one token deep and that averages over slices."""
    torch.manual_seed(0)
    flat = large_weights(PooledSwin(2, window=(2, 2), patch=(2, 2)))
    deep = PooledSwin(3, window=(1, 2, 2), patch=(2, 2, 2))
    state = dict(flat.state_dict())
    for key, value in flat.state_dict().items():
        if key.endswith("patch_embed.proj.weight"):  # the mean over the two slices of a patch
            state[key] = value[:, :, None].repeat(1, 1, 2, 1, 1) / 2
        elif "downsample" in key:  # of two dimensions: (row, col) at 2 · col + row; of three: 4 · slice + 2 · row + col
            groups = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].repeat(*[1] * (value.ndim - 1), 2, 1)
            state[key] = groups.flatten(-2) / (2 if "reduction" in key else 1)
    deep.load_state_dict(state)
    return flat, deep.eval(), volumes(32, 32)


@pytest.mark.parametrize("method", QUICK)
def test_a_volume_of_equal_slices_has_the_map_of_its_slice(method: str) -> None:
    flat, deep, slices = equal_slices()
    volume = slices[:, :, None].repeat(1, 1, 32, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(deep(volume), flat(slices), rtol=1e-4, atol=1e-5)
    expected = QUICK[method](flat, slices, 1)
    assert expected.std() > 0.01
    maps = QUICK[method](deep, volume, 1)
    if method == "relevance":  # it adds gradients to 1, and each of n equal slices has 1/n of the gradient
        expected = maps[:, 16]
    torch.testing.assert_close(maps, expected[:, None].expand_as(maps), rtol=0, atol=1e-4)


def test_a_brain_mask_of_a_volume() -> None:
    model, given = MODELS["monai 3-D"]()
    brain = torch.zeros(2, 32, 16, 16, dtype=torch.bool)
    brain[:, 4:12] = True
    maps = hgi_sam(model, given, 1, brain=brain)
    assert maps[~brain].abs().sum() == 0
    assert maps.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    with pytest.raises(InputError, match=r"brain: got shape \[2, 16, 16\], expected a mask of shape \[2, 32, 16, 16\]"):
        hgi_sam(model, given, 1, brain=brain[:, 0])


@pytest.mark.parametrize("method", QUICK)
def test_logit_makes_logits_of_features_and_segmentations(method: str) -> None:
    whole, given = transformers_swin("v1", 32, 2), images(32, 32)
    large_weights(whole)
    expected = QUICK[method](whole, given, 1)
    torch.testing.assert_close(QUICK[method](whole, given, 1, logit=lambda output: output.logits), expected)
    maps = QUICK[method](whole.swin, given, 1, logit=lambda features: whole.classifier(features.pooler_output))
    torch.testing.assert_close(maps, expected)
    unet, given = segmenter(2), volumes(64, 32)
    pooled = QUICK[method](Pooled(unet), given, 1)
    torch.testing.assert_close(QUICK[method](unet, given, 1, logit=lambda masks: masks.mean(dim=(2, 3))), pooled)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: transformers_swin("v1", 32, 2).swin, (1, 3, 32, 32), r"a Swin without a head.* give logit="),
        (lambda: transformers_swin("v2", 32, 2).swinv2, (1, 3, 32, 32), "a Swin without a head"),
        (lambda: PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2)).swin, (1, 1, 16, 16, 16), "a Swin without a head"),
        (segmenter, (1, 1, 64, 32, 32), r"logits: got shape \[1, 2, 64, 32, 32\].* give logit="),
        (segmenter, (1, 1, 33, 32, 32), r"images: got shape \[1, 1, 33, 32, 32\].* divisible by 2\*\*5. Pad or resize"),
        (segmenter, (1, 1, 32, 32), r"shape \[1, 1, 32, 32\] at the Swin, expected \[B, 1, D, H, W\]"),
        (lambda: torchvision_swin("v1", 2), (1, 3, 8, 32, 32), r"at the Swin, expected \[B, 3, H, W\]"),
        (lambda: torchvision_swin("v1", 2), (1, 1, 32, 32), r"at the Swin, expected \[B, 3, 32, 32\]"),
        (lambda: torchvision_swin("v1", 2), (1, 3, 1, 32), r"expected \[B, 3, 2 or more, 2 or more\]"),
        (lambda: transformers_swin("v2", 32, 2), (1, 1, 32, 32), r"at the Swin, expected \[B, 3, 32, 32\]"),
        (lambda: torchvision_swin("v1", 2), (3, 32, 32), "images: got shape"),
    ],
)
def test_input_that_does_not_fit_is_one_line(make: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        hgi_sam(make(), torch.zeros(shape), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_swin_that_timm_took_apart_for_its_features_has_the_same_map(name: str, method: str) -> None:
    model, given = build(name)
    model.norm = nn.Identity()  # which is no part of the features
    apart = FeatureListNet(copy.deepcopy(model), out_indices=(0, 1, 2, 3), flatten_sequential=True)
    axes = (2, 3) if name == "v2-cr" else (1, 2)
    maps = QUICK[method](apart, given, 1, logit=lambda features: features[-1].mean(dim=axes))
    expected = QUICK[method](Features(model), given, 1, logit=lambda last: last.mean(dim=axes))
    torch.testing.assert_close(maps, expected)
    with pytest.raises(InputError, match="a Swin without a head, which returns features"):
        QUICK[method](apart, given, 1)


class Features(nn.Module):
    """The features of a timm model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.forward_features(images)
        return features


def test_a_shift_that_transformers_ends_for_a_small_image_is_set_back() -> None:
    model, given = MODELS["transformers v1 padded"]()
    expected = hgi_sam(model, given, 1)
    hgi_sam(model, images(64, 64), 1)
    assert torch.equal(hgi_sam(model, given, 1), expected)
    with torch.no_grad():
        model(images(64, 64))  # its last grid is one window: the block is not shifted from then on
    assert not torch.equal(hgi_sam(model, given, 1), expected)


def test_a_torchvision_swin_whose_head_was_removed_is_an_error() -> None:
    model = torchvision_swin("v1", 2)
    model.head = nn.Identity()
    with pytest.raises(InputError, match="a Swin without a head"):
        hgi_sam(model, images(32, 32), 1)
    hgi_sam(nn.Sequential(model, nn.Linear(128, 2)), images(32, 32), 1)


def test_attention_that_is_not_of_the_library_is_an_error_that_names_it() -> None:
    model, given = MODELS["torchvision v1"]()
    model = copy.deepcopy(model)
    model.features[3][1].attn = nn.Identity()
    with pytest.raises(InputError, match="attention of stage 1, block 1: got Identity"):
        hgi_sam(model, given, 1)


def test_two_swins_of_two_libraries_are_an_error() -> None:
    both = nn.ModuleList([torchvision_swin("v1", 2), transformers_swin("v1", 32, 2)])
    with pytest.raises(InputError, match="2 Swin transformers in ModuleList"):
        find_swin(both)


def test_a_library_is_imported_only_if_the_model_comes_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: f"hgisam.adapters.{name}" for name in LIBRARIES}
    for name in ("timm", "torchvision"):
        for module in names.values():
            monkeypatch.delitem(sys.modules, module, raising=False)
        model, given = build("v1") if name == "timm" else MODELS["torchvision v1"]()
        hgi_sam(model, given, 1)
        assert [library for library, module in names.items() if module in sys.modules] == [name]

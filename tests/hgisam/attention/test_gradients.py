"""Recorded attention and gradients: complete, exact, and the model is left as it was."""

import weakref
from collections.abc import Callable

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from hgisam.attention import (
    BlockAttention,
    activation_gradients,
    attention_gradients,
    find_swin,
    image_gradients,
    record_attention,
    reduce_gradients,
)
from hgisam.errors import InputError
from tests.swins import GEOMETRIES, ONE_OF_EACH, blocks, build


def test_every_block_is_recorded_in_order_and_rows_sum_to_one(tiny_model: SwinTransformer) -> None:
    with record_attention(tiny_model, (0, 1, 2, 3)) as blocks:
        tiny_model(torch.randn(3, 3, 32, 32))
    assert [(b.stage, b.block) for b in blocks] == [(s, b) for s in range(4) for b in range(2)]
    assert [b.grid for b in blocks[::2]] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert [b.shift for b in blocks] == [(0, 0), (1, 1)] * 3 + [(0, 0)] * 2
    for block in blocks:
        torch.testing.assert_close(block.attention.sum(dim=-1), torch.ones(block.attention.shape[:-1]))
        torch.testing.assert_close(block.scores.softmax(dim=-1), block.attention)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(tiny_model: SwinTransformer, fails: bool) -> None:
    tiny_model.train()
    attention = tiny_model.layers[0].blocks[0].attn
    attention.fused_attn = True
    tiny_model.requires_grad_(False)
    if fails:
        with pytest.raises(RuntimeError, match="boom"), record_attention(tiny_model, (0,)):
            raise RuntimeError("boom")
    else:
        attention_gradients(tiny_model, torch.randn(1, 3, 32, 32), 1, stages=(0, 1), gradient_at="weights")
    assert tiny_model.training
    assert attention.fused_attn
    assert not attention.softmax._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in tiny_model.parameters())


def test_gradients_are_finite_differences_of_the_logit(tiny_model: SwinTransformer) -> None:
    tiny_model.double()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    _, gradients = attention_gradients(tiny_model, images, 1, stages=(1,), gradient_at="scores")
    index, step = (2, 1, 0, 3), 1e-4
    softmax = tiny_model.layers[1].blocks[0].attn.softmax

    def logit(change: float) -> float:
        def perturb(_module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            scores = inputs[0].clone()
            scores[index] += change
            return (scores,)

        handle = softmax.register_forward_pre_hook(perturb)
        try:
            return float(tiny_model(images)[0, 1])
        finally:
            handle.remove()

    attention = tiny_model.layers[1].blocks[0].attn
    attention.fused_attn = False
    with torch.no_grad():
        expected = (logit(step) - logit(-step)) / (2 * step)
    assert float(gradients[0][index]) == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_gradients_do_not_mix_images(tiny_model: SwinTransformer) -> None:
    images = torch.randn(2, 3, 32, 32)
    _, both = attention_gradients(tiny_model, images, 1, stages=(0,), gradient_at="weights")
    _, single = attention_gradients(tiny_model, images[1:], 1, stages=(0,), gradient_at="weights")
    torch.testing.assert_close(both[0][64:], single[0])


def test_inputs_that_do_not_fit_are_errors(tiny_model: SwinTransformer) -> None:
    good = torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match="0 Swin"):
        find_swin(nn.Linear(2, 2))
    with pytest.raises(InputError, match="2 Swin"):
        find_swin(nn.ModuleList([tiny_model, SwinTransformer(img_size=32, window_size=1, num_classes=2)]))
    with (
        pytest.raises(InputError, match="recorded attention for 0 of 2"),
        record_attention(tiny_model, (0,)),
    ):
        pass
    for images, target, options, message in [
        (torch.zeros(3, 32, 32), 1, {}, "images"),
        (torch.zeros(1, 1, 32, 32), 1, {}, "images"),
        (torch.full((1, 3, 32, 32), torch.nan), 1, {}, "not finite"),
        (good, 2, {}, "target"),
        (good, 1, {"stages": (4,)}, "stages"),
        (good, 1, {"gradient_at": "logits"}, "gradient_at"),
    ]:
        with pytest.raises(InputError, match=message):
            attention_gradients(tiny_model, images, target, **{"stages": (0,), "gradient_at": "scores"} | options)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("gradient_at", ["scores", "weights"])
def test_gradients_of_every_block_are_finite_differences(name: str, gradient_at: str) -> None:
    """Perturbs one score, or one weight, of each block at the input of its dropout, which all versions have."""
    model, images = build(name)
    model, images = model.double(), images[:1].double()
    records, gradients = attention_gradients(model, images, 2, stages=(0, 1, 2, 3), gradient_at=gradient_at)
    step = 1e-5

    def logit(block: nn.Module, index: tuple[int, ...], change: float) -> float:
        def perturb(_: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            tensor = given[0].log() if gradient_at == "scores" else given[0].clone()
            tensor[index] += change
            return (tensor.softmax(dim=-1) if gradient_at == "scores" else tensor,)

        handle = block.attn.attn_drop.register_forward_pre_hook(perturb)
        try:
            with torch.no_grad():
                return float(model(images)[0, 2])
        finally:
            handle.remove()

    assert len(records) == len(blocks(model))
    for record, gradient, (stage, number, block) in zip(records, gradients, blocks(model), strict=True):
        assert (record.stage, record.block) == (stage, number)
        windows, heads, n, _ = gradient.shape
        index = (windows // 2, heads - 1, n // 3, n // 2)
        expected = (logit(block, index, step) - logit(block, index, -step)) / (2 * step)
        assert float(gradient[index]) == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_gradients_are_those_of_a_plain_backward_pass(name: str) -> None:
    """The reference is `.backward()` through the whole model, parameters included."""
    model, images = build(name)
    found = attention_gradients(model, images, 1, stages=(1, 2), gradient_at="weights")
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, given: tuple[torch.Tensor]) -> None:
        given[0].retain_grad()
        kept.append(given[0])

    for stage, _, block in blocks(model):
        block.attn.fused_attn = False
        if stage in (1, 2):
            block.attn.attn_drop.register_forward_pre_hook(keep)
    model(images)[:, 1].sum().backward()
    assert len(kept) == 4
    for record, gradient, tensor in zip(*found, kept, strict=True):
        torch.testing.assert_close(record.attention, tensor.detach())
        torch.testing.assert_close(gradient, tensor.grad)


def test_the_backward_pass_ends_at_the_first_target_block(tiny_model: SwinTransformer) -> None:
    """Neither parameters nor earlier layers get a gradient, although both require one."""
    reached: list[str] = []
    for name in ("patch_embed", "layers.1.blocks.0", "layers.2.downsample", "layers.3.blocks.1"):
        module = tiny_model.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: _on_gradient(out, lambda: reached.append(name)))
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    attention_gradients(tiny_model, images, 0, stages=(1,), gradient_at="scores")
    assert reached == ["layers.3.blocks.1", "layers.2.downsample", "layers.1.blocks.0"]
    assert images.grad is None
    assert all(p.grad is None and p.requires_grad for p in tiny_model.parameters())


def _on_gradient(output: torch.Tensor, call: Callable[[], None]) -> None:
    if output.requires_grad:
        output.register_hook(lambda _: call())


def test_blocks_are_reduced_one_by_one_and_freed(tiny_model: SwinTransformer) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def reduce(block: BlockAttention, gradient: torch.Tensor) -> torch.Tensor:
        nonlocal most
        alive.append(weakref.ref(gradient))
        most = max(most, sum(ref() is not None for ref in alive))
        return gradient.sum(dim=(1, 2, 3))

    kept = reduce_gradients(tiny_model, torch.randn(2, 3, 32, 32), 1, reduce, stages=(0, 1, 2, 3), gradient_at="scores")
    assert [(b.stage, b.block) for b in kept] == [(s, b) for s in range(4) for b in range(2)]
    assert len(alive) == 8
    assert most <= 2


class _Wrapped(nn.Module):
    """A Swin inside a model that cuts the graph, calls it twice, or fails."""

    def __init__(self, swin: nn.Module, how: str) -> None:
        super().__init__()
        self.swin, self.how = swin, how

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                return self.swin(images)
        if self.how == "detach":
            return self.swin.head(self.swin.forward_features(images).detach())
        if self.how == "late detach":  # gradients reach the last stage only
            x = self.swin.layers[:3](self.swin.patch_embed(images)).detach()
            return self.swin.head(self.swin.norm(self.swin.layers[3](x)))
        if self.how == "twice":
            return self.swin(images) + self.swin(images)
        if self.how == "one":
            return self.swin(images)[:, 1]
        raise RuntimeError("boom")


@pytest.mark.parametrize("how", ["no_grad", "detach", "late detach"])
def test_no_differentiable_path_from_logit_to_attention_is_an_error(tiny_model: SwinTransformer, how: str) -> None:
    model, images = _Wrapped(tiny_model, how), torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match="gradient: got none at"):
        attention_gradients(model, images, 1, stages=(0, 3), gradient_at="scores")
    with pytest.raises(InputError, match="gradient: got none at"):
        activation_gradients(model, images, 1, layers=[(0, 0), (2, 0)], at="output")
    with pytest.raises(InputError, match="gradient: got none at"):
        image_gradients(model, images, 1)


def test_a_model_that_calls_its_swin_twice_is_an_error(tiny_model: SwinTransformer) -> None:
    with pytest.raises(InputError, match="recorded attention for 4 of 2 blocks"):
        attention_gradients(
            _Wrapped(tiny_model, "twice"), torch.zeros(1, 3, 32, 32), 1, stages=(0,), gradient_at="scores"
        )


def test_a_block_that_is_not_from_timm_is_an_error_that_names_it(tiny_model: SwinTransformer) -> None:
    tiny_model.layers[1].blocks[1].attn = nn.Identity()
    with (
        pytest.raises(InputError, match="attention of stage 1, block 1: got Identity"),
        record_attention(tiny_model, (1,)),
    ):
        pass
    assert not tiny_model.layers[1].blocks[0].attn.softmax._forward_hooks


def test_inference_mode_is_an_error_and_no_grad_is_not(tiny_model: SwinTransformer) -> None:
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match="no_grad"), torch.inference_mode():
        attention_gradients(tiny_model, images, 1, stages=(0,), gradient_at="scores")
    with torch.no_grad():
        attention_gradients(tiny_model, images, 1, stages=(0,), gradient_at="scores")
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        inference_images = torch.zeros(1, 3, 32, 32)
        inference_model = build("v1")[0]
    attention_gradients(tiny_model, inference_images, 1, stages=(0,), gradient_at="scores")
    image_gradients(tiny_model, inference_images, 1)
    with pytest.raises(InputError, match="inference_mode"):
        attention_gradients(inference_model, images, 1, stages=(0,), gradient_at="scores")


@pytest.mark.parametrize("at", ["norm1", "norm2", "output"])
@pytest.mark.parametrize("name", [*ONE_OF_EACH, "v1 padded rectangular"])
def test_activation_gradients_are_those_of_a_plain_backward_pass(name: str, at: str) -> None:
    model, images = build(name)
    found = activation_gradients(model, images, 1, layers=[(1, 0), (-1, -1)], at=at)
    kept: list[torch.Tensor] = []
    where = [block for stage, number, block in blocks(model) if (stage, number) in {(1, 0), (3, 1)}]
    for block in where:
        module = block if at == "output" else getattr(block, at)
        module.register_forward_hook(lambda _, __, output: (output.retain_grad(), kept.append(output))[1])
    model(images)[:, 1].sum().backward()
    assert [(b.stage, b.block) for b in found] == [(1, 0), (3, 1)]
    for (block, (activation, gradient)), tensor in zip(found.items(), kept, strict=True):
        assert activation.shape[1:3] == block.grid
        torch.testing.assert_close(activation, tensor.detach().reshape(activation.shape))
        torch.testing.assert_close(gradient, tensor.grad.reshape(activation.shape))


def test_float16_gradients_do_not_vanish() -> None:
    """Gradients of 1e-8 and less are 0 in float16, unless the logit is scaled."""
    model, images = build("v1")
    with torch.no_grad():
        model.head.fc.weight.mul_(1e-5)
    exact = attention_gradients(model, images, 1, stages=(0, 2), gradient_at="scores")[1]
    with torch.autocast("cpu", dtype=torch.float16):
        half = attention_gradients(model, images, 1, stages=(0, 2), gradient_at="scores")[1]
    for a, b in zip(exact, half, strict=True):
        assert b.dtype == torch.float32
        assert float((a - b).norm() / a.norm()) < 0.05

"""Recording attention leaves the model alone and misses nothing."""

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from hgisam.attention import attention_gradients, find_swin, record_attention
from hgisam.errors import InputError


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
        def nudge(_module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            scores = inputs[0].clone()
            scores[index] += change
            return (scores,)

        handle = softmax.register_forward_pre_hook(nudge)
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


def test_refusals(tiny_model: SwinTransformer) -> None:
    good = torch.zeros(1, 3, 32, 32)
    with pytest.raises(InputError, match="0 timm Swin"):
        find_swin(nn.Linear(2, 2))
    with pytest.raises(InputError, match="2 timm Swin"):
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

"""Map methods: values worked out by hand, then properties of all methods."""

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer, window_partition
from torch.nn import functional as F

from hgisam.attention import BlockAttention, record_attention
from hgisam.maps import hgi_sam
from hgisam.maps.combine import attention_received, combine_blocks, combine_stages, min_max, to_token_grid
from hgisam.maps.hgi_sam import head_weights, weighted_attention
from tests.swins import QUICK


def _block(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> BlockAttention:
    return BlockAttention(0, 0, window, shift, grid, torch.empty(0), torch.empty(0))


def test_one_window_by_hand() -> None:
    attention = torch.tensor([[[[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]])  # [1, 2 heads, 2, 2]
    gradient = torch.tensor([[[[3.0, 0.0], [0.0, -4.0]], [[0.0, 0.0], [2.0, 0.0]]]])
    weights = head_weights(gradient)
    assert weights.tolist() == [[5.0, 2.0]]
    infused = weighted_attention(attention, weights)
    assert infused.tolist() == [[[(5 * 0.25 + 2) / 2, 5 * 0.75 / 2], [5 * 0.5 / 2, (5 * 0.5 + 2) / 2]]]
    assert attention_received(infused).tolist() == [[(1.625 + 1.25) / 2, (1.875 + 2.25) / 2]]


@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (1, 0)])
def test_window_reverse_undoes_partition_and_cyclic_shift(shift: tuple[int, int]) -> None:
    tokens = torch.arange(2 * 4 * 6, dtype=torch.float32).view(2, 4, 6)
    rolled = torch.roll(tokens, shifts=(-shift[0], -shift[1]), dims=(1, 2))[..., None]
    windows = window_partition(rolled, (2, 2)).view(-1, 4)
    torch.testing.assert_close(to_token_grid(windows, _block((4, 6), (2, 2), shift)), tokens)


def test_window_reverse_drops_padding() -> None:
    tokens = torch.arange(15, dtype=torch.float32).view(1, 3, 5)
    windows = window_partition(F.pad(tokens, (0, 1, 0, 1))[..., None], (2, 2)).view(-1, 4)
    torch.testing.assert_close(to_token_grid(windows, _block((3, 5), (2, 2), (0, 0))), tokens)


def test_pairs_of_blocks_are_multiplied_and_averaged() -> None:
    grids = [torch.full((1, 1, 1), v) for v in (2.0, 3.0, 4.0, 5.0, 7.0)]
    assert combine_blocks(grids).item() == pytest.approx((6 + 20 + 7) / 3)


def test_min_max_is_per_image_and_a_constant_is_zero() -> None:
    maps = min_max(torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]]))
    assert maps.tolist() == [[[0.0, 1.0]], [[0.0, 0.0]]]


def test_stages_are_normalized_and_multiplied_by_hand() -> None:
    # two images, one row of three tokens, two stages
    fine = torch.tensor([[[0.0, 2.0, 4.0]], [[0.0, 1.0, 1.0]]])
    coarse = torch.tensor([[[1.0, 1.0, 3.0]], [[0.0, 2.0, 6.0]]])
    assert combine_stages([fine, coarse], (1, 3)).tolist() == [[[0, 0, 1]], [[0, pytest.approx(1 / 3), 1]]]


def test_stages_are_multiplied_inside_the_brain() -> None:
    stage = torch.tensor([[[0.0, 2.0]]])
    whole = combine_stages([stage, stage], (1, 2))
    assert whole.tolist() == [[[0.0, 1.0]]]
    assert combine_stages([stage], (1, 2), torch.tensor([[[1, 0]]])).tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize("name", QUICK)
def test_batch_equals_single_and_range(tiny_model: SwinTransformer, name: str) -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    maps = QUICK[name](tiny_model, images, 1)
    assert maps.shape == (3, 32, 32)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert maps.max() == 1
    single = torch.cat([QUICK[name](tiny_model, image[None], 1) for image in images])
    torch.testing.assert_close(maps, single, rtol=1e-4, atol=1e-5)
    brain = torch.zeros(3, 32, 32)
    assert QUICK[name](tiny_model, images, 1, brain=brain).abs().sum() == 0


@pytest.mark.parametrize("gradient_at", ["scores", "weights"])
def test_hgi_sam_equals_a_reference_with_loops(tiny_model: SwinTransformer, gradient_at: str) -> None:
    """The reference: one image, timm's own window_reverse, plain loops and .backward()."""
    from timm.models.swin_transformer import window_reverse

    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with record_attention(tiny_model, (0, 1, 2)) as blocks:
        logits = tiny_model(images.clone().requires_grad_())
    for block in blocks:
        block.scores.retain_grad()
        block.attention.retain_grad()
    logits[0, 1].backward()
    product = np.ones((32, 32))
    for stage in range(3):
        grids = []
        for block in (b for b in blocks if b.stage == stage):
            kept = block.scores if gradient_at == "scores" else block.attention
            received = torch.zeros(len(kept), kept.shape[-1])
            for window in range(len(kept)):
                for head in range(kept.shape[1]):
                    g = kept.grad[window, head].square().sum().sqrt()
                    received[window] += g * block.attention[window, head].detach().mean(dim=0) / kept.shape[1]
            grid = window_reverse(received.view(-1, *block.window, 1), block.window, *block.grid)
            grids.append(torch.roll(grid, block.shift, dims=(1, 2))[0, ..., 0])
        pair = grids[0] * grids[1]
        pair = (pair - pair.min()) / (pair.max() - pair.min())
        product = product * F.interpolate(pair[None, None], (32, 32), mode="bilinear")[0, 0].numpy()
    expected = (product - product.min()) / (product.max() - product.min())
    got = hgi_sam(tiny_model, images, 1, gradient_at=gradient_at)[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_grad_cam_by_hand(tiny_model: SwinTransformer) -> None:
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    norm = tiny_model.layers[-1].blocks[-1].norm1
    kept: list[torch.Tensor] = []
    handle = norm.register_forward_hook(lambda _m, _i, out: (out.retain_grad(), kept.append(out))[1])
    tiny_model(images.clone().requires_grad_())[0, 1].backward()
    handle.remove()
    cam = (kept[0].grad.mean(dim=(1, 2), keepdim=True) * kept[0].detach()).sum(dim=3).relu()
    expected = min_max(F.interpolate(min_max(cam)[:, None], (32, 32), mode="bilinear")[:, 0])
    torch.testing.assert_close(QUICK["grad_cam"](tiny_model, images, 1), expected)
    assert not norm._forward_hooks

"""Single attention heads: against the maps that combine them, and the contrast by hand."""

import pytest
import torch

from hgisam.attention.gradients import attention_gradients
from hgisam.maps import hgi_sam, swin_sam
from hgisam.maps.combine import attention_received, combine, to_token_grid
from hgisam.maps.hgi_sam import head_weights
from hgisam_book.studies.heads import HeadMaps, contrast, head_maps
from tests.swins import GEOMETRIES, build


@pytest.mark.parametrize("name", GEOMETRIES)
def test_means_over_heads_give_the_two_maps(name: str) -> None:
    model, images = build(name)
    heads = head_maps(model, images, 1, gradient_at="weights")
    received = {block: maps.received.mean(dim=1) for block, maps in heads.items()}
    weighted = {block: maps.weighted.mean(dim=1) for block, maps in heads.items() if block.stage < 3}
    size = (images.shape[2], images.shape[3])
    torch.testing.assert_close(combine(received, size, None), swin_sam(model, images, 1), rtol=1e-3, atol=1e-4)
    expected = hgi_sam(model, images, 1, gradient_at="weights")
    torch.testing.assert_close(combine(weighted, size, None), expected, rtol=1e-3, atol=1e-4)


def test_each_head_by_itself() -> None:
    model, images = build("v1")
    blocks, gradients = attention_gradients(model, images, 1, stages=(0, 1, 2, 3), gradient_at="scores")
    found = head_maps(model, images, 1)
    assert list(found) == [block.geometry for block in blocks]
    for block, gradient in zip(blocks, gradients, strict=True):
        for head in range(block.attention.shape[1]):
            received = attention_received(block.attention[:, head])
            grid = to_token_grid(received, block)
            torch.testing.assert_close(found[block.geometry].received[:, head], grid)
            weighted = to_token_grid(received * head_weights(gradient)[:, head, None], block)
            torch.testing.assert_close(found[block.geometry].weighted[:, head], weighted)


def test_received_attention_is_scaled_per_head_and_weighted_heads_together() -> None:
    received = torch.tensor([[[[0.1, 0.3]], [[0.4, 0.8]]]])  # [1, 2 heads, 1, 2]
    weighted = torch.tensor([[[[0.0, 1.0]], [[2.0, 4.0]]]])
    own, shared = HeadMaps(received, weighted).panels()
    torch.testing.assert_close(own, torch.tensor([[[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]]]))
    torch.testing.assert_close(shared, torch.tensor([[[[0.0, 1.0]], [[0.0, 0.25]], [[0.5, 1.0]]]]))
    dark, nothing = HeadMaps(received * 0, weighted * 0).panels()
    assert not dark.any()
    assert not nothing.any()


def test_contrast_by_hand() -> None:
    truth, brain = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.uint8)
    truth[0, :2, :2] = True
    brain[0, 2:, 2:] = 0
    maps = torch.tensor([[[[6.0, 1.0], [3.0, 9.0]], [[1.0, 1.0], [1.0, 1.0]]]])  # [1, 2 heads, 2, 2]
    assert contrast(maps, truth, brain).tolist() == [[3.0, 1.0]]
    truth[0, 0, 0] = False  # a token with a share in both: (0.75 · 6) / 0.75 over (0.25 · 6 + 1 + 3) / 2.25
    assert contrast(maps[:, :1], truth, brain).item() == pytest.approx(6 / (5.5 / 2.25))

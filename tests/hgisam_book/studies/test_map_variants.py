"""Variants of map methods: by hand on maps of a few pixels; without a change they equal the method itself."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hgisam.attention import BlockGeometry
from hgisam.errors import InputError
from hgisam.maps import grad_cam, hgi_sam
from hgisam_book.studies import map_variants
from hgisam_book.studies.map_variants import (
    at_threshold,
    average,
    batch_min_max,
    composed,
    eroded_brain,
    multi_scale,
    of_predicted_class,
    product,
    times_blurred_window,
    whole_slice,
    with_flip,
    within_brain,
    zoom,
)
from tests.swins import build


def first_channel(model: nn.Module, images: Tensor, target: int) -> Tensor:
    return images[:, 0]


def left_half(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Uses the left half only, so that flipping changes it."""
    return images[:, 0] * (torch.arange(images.shape[3]) < images.shape[3] / 2)


def test_composed_without_a_change_is_hgi_sam_and_each_change_changes_it() -> None:
    model, images = build("v1 odd depth")
    given = {"gradient_at": "weights", "stages": (0, 1, 2)}
    expected = hgi_sam(model, images, 1, gradient_at="weights")
    torch.testing.assert_close(composed(**given)(model, images, 1), expected)
    for change in ({"blocks": average}, {"join": average}, {"scale": "batch"}, {"stages": (0, 1, 2, 3)}):
        changed = composed(**given | change)(model, images, 1)
        assert float((changed - expected).abs().max()) > 1e-3, change
        assert 0 <= changed.min() <= changed.max() == 1


def test_pairs_can_be_averaged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_variants, "infused_grids", lambda *_, **__: grids_of([[2.0, 3.0, 4.0, 5.0, 7.0]]))
    images = torch.zeros(1, 1, 1, 1)
    options = {"gradient_at": "scores", "stages": (0,), "scale": "none"}
    seen: list[float] = []
    joined = lambda maps: seen.append(float(maps[0])) or maps[0]  # noqa: E731 (the one stage, before the last min-max)
    for blocks in (product, average):
        composed(**options, blocks=blocks, join=joined)(nn.Identity(), images, 0)
    assert seen == pytest.approx([(6 + 20 + 7) / 3, (2.5 + 4.5 + 7) / 3])


def grids_of(stages: list[Any]) -> dict[BlockGeometry, torch.Tensor]:
    """Token grids [B, 1, cols] of the blocks of each stage: numbers for a grid of one token, or tensors."""
    grids = {}
    for stage, blocks in enumerate(stages):
        for number, values in enumerate(blocks):
            grid = values if isinstance(values, torch.Tensor) else torch.full((1, 1, 1), values)
            grids[BlockGeometry(stage, number, (1, 1), (0, 0), (1, grid.shape[2]))] = grid
    return grids


def test_min_max_scaling_over_the_batch_depends_on_the_other_images() -> None:
    maps = batch_min_max(torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]]))
    assert maps.tolist() == [[[0.0, 0.5]], [[1.0, 1.0]]]


def test_other_fusion_and_scaling_of_stages_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # two images, one row of three tokens, two stages
    fine = torch.tensor([[[0.0, 2.0, 4.0]], [[0.0, 1.0, 1.0]]])
    coarse = torch.tensor([[[1.0, 1.0, 3.0]], [[0.0, 2.0, 6.0]]])
    monkeypatch.setattr(map_variants, "infused_grids", lambda *_, **__: grids_of([[fine], [coarse]]))

    def maps(**how: Any) -> list[float]:
        made = composed(gradient_at="scores", stages=(0, 1), **how)(nn.Identity(), torch.zeros(2, 1, 1, 3), 0)
        return made.flatten().tolist()

    assert maps() == pytest.approx([0, 0, 1, 0, 1 / 3, 1])
    assert maps(join=average) == pytest.approx([0, 0.25, 1, 0, 2 / 3, 1])  # 0, 0.25, 1 and 0, 2/3, 1
    assert maps(scale="none") == pytest.approx([0, 1 / 6, 1, 0, 1 / 3, 1])  # 0, 2, 12 and 0, 2, 6
    # 0, 2·1, 4·3 and 0, 1·2, 1·6, of 4 · 6; then over both
    assert maps(scale="batch") == pytest.approx([0, 1 / 6, 1, 0, 1 / 6, 0.5])
    with pytest.raises(InputError, match="scale"):
        maps(scale="whole")


def test_a_product_without_scaling_is_the_product_with_it_up_to_its_offsets() -> None:
    model, images = build("v1")
    one = {"gradient_at": "weights", "stages": (1,)}
    plain = composed(**one)(model, images, 1)
    torch.testing.assert_close(composed(**one, scale="none")(model, images, 1), plain, rtol=1e-3, atol=1e-4)


def test_flip_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    model = nn.Identity()
    # itself: 1 2 0 0; mirrored slice: 4 3 2 1 -> 4 3 0 0, flipped back 0 0 3 4
    assert with_flip(left_half)(model, image, 1).tolist() == [[[0.5, 1.0, 1.5, 2.0]]]
    assert with_flip(first_channel)(model, image, 1).tolist() == image[:, 0].tolist()


def test_zoom_magnifies_about_the_center_and_can_be_undone() -> None:
    spot = torch.zeros(1, 1, 32, 32)
    spot[..., 14:18, 14:18] = 1
    assert zoom(spot, 2.0).sum() == pytest.approx(64, rel=0.02)
    assert torch.equal(zoom(spot, 1.0), spot)
    assert zoom(torch.ones(1, 1, 8, 8), 0.5)[0, 0, 0].tolist() == [0.0] * 8
    at = torch.arange(32.0)
    smooth = torch.exp(-((at - 15.5) ** 2)[:, None] / 20 - (at - 13) ** 2 / 20)[None, None]
    assert float((zoom(zoom(smooth, 1.15), 1 / 1.15) - smooth).abs().max()) < 0.04
    mean = multi_scale(first_channel)(nn.Identity(), smooth, 1)
    assert float((mean - smooth[:, 0]).abs().max()) < 0.04


def test_the_blurred_window_weighs_bright_tissue_by_hand() -> None:
    images = torch.zeros(1, 3, 32, 32)
    images[0, 0, 16, 16] = 7.0

    def ones(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return torch.ones_like(images[:, 0])

    weighted = times_blurred_window(ones)(nn.Identity(), images, 0)[0].numpy()
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 8)
    expected = np.outer(kernel, kernel) / kernel.sum() ** 2
    np.testing.assert_allclose(weighted[12:21, 12:21], expected, atol=1e-6)
    assert weighted[:12].max() == 0


def test_a_mask_includes_pixels_at_its_threshold() -> None:
    image = torch.tensor([[[[0.04, 0.05, 0.9]]]])
    assert at_threshold(first_channel, 0.05)(nn.Identity(), image, 1).tolist() == [[[0.0, 1.0, 1.0]]]


def test_the_predicted_class_is_explained_slice_by_slice() -> None:
    model, images = build("v1")
    with torch.no_grad():
        logits = model(images)
        model.head.fc.bias -= logits.mean(dim=0)  # equal mean logits, so that the two slices get different classes
        predicted = model(images).argmax(dim=1)
    assert predicted.unique().numel() == 2
    maps = of_predicted_class(grad_cam)(model, images, 1)
    for image, label, got in zip(images, predicted.tolist(), maps, strict=True):
        torch.testing.assert_close(got, grad_cam(model, image[None], label)[0], rtol=1e-3, atol=1e-4)


def test_other_brain_masks_by_hand() -> None:
    maps = np.array([[[0.5, 0.25, 1.0]], [[0.0, 0.0, 1.0]]], np.float32)
    brain = np.array([[[1, 1, 0]], [[1, 1, 0]]], np.uint8)
    assert whole_slice(maps, brain)[1].all()
    assert within_brain(maps, brain)[0].tolist() == [[[1.0, 0.5, 0.0]], [[0.0, 0.0, 0.0]]]
    square = np.zeros((1, 9, 9), np.uint8)
    square[0, 1:8, 1:8] = 1
    _, deep = eroded_brain(np.zeros(square.shape, np.float32), square, pixel_mm=1.0)
    assert deep.sum() == 9  # 2 mm from each side, whose nearest pixel outside is 1 mm from the first inside
    assert deep[0, 3:6, 3:6].all()
    _, fine = eroded_brain(np.zeros(square.shape, np.float32), square, pixel_mm=2.5)
    assert np.array_equal(fine, square)

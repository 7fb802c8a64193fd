"""Maps of every library: equal for equal weights, also in three dimensions; all methods on all of them."""

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformer as MonaiSwinTransformer
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from hgisam.errors import InputError
from hgisam.maps import METHODS, grad_cam, hgi_sam, sliding_windows, swin_sam
from tests import libraries
from tests.libraries import LIBRARIES, build, images, randomized

GRADIENT_FREE_AND_SLOW = {"ablation_cam", "score_cam", "integrated_gradients"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("other", ["torchvision", "transformers"])
def test_same_weights_in_another_library_give_the_same_map(other: str, version: int, method: str) -> None:
    timm = libraries.timm_swin(version=version)
    model = getattr(libraries, f"{other}_swin")(version=version)
    converted = getattr(libraries, f"to_{other}")(timm.state_dict(), version)
    missing, unexpected = model.load_state_dict(converted, strict=False)
    assert not unexpected
    assert all(key.endswith(("relative_position_index", "relative_coords_table")) for key in missing)
    given = images(64, 64)
    expected = METHODS[method](timm, given, 1)
    torch.testing.assert_close(METHODS[method](model, given, 1), expected, rtol=0, atol=1e-5)
    assert (expected - METHODS[method](randomized(timm, seed=7), given, 1)).abs().max() > 0.1  # the test can fail


def test_a_padded_image_is_explained_alike_in_torchvision_and_transformers() -> None:
    """Both pad before they shift; timm pads after it, so that its logits are others."""
    timm = SwinTransformer(
        img_size=(60, 52), patch_size=2, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=4,
        num_classes=3,
    )  # fmt: skip
    weights = {k: v for k, v in randomized(timm).state_dict().items() if not k.endswith("attn_mask")}
    a, b = libraries.torchvision_swin(), libraries.transformers_swin()
    a.load_state_dict(libraries.to_torchvision(weights), strict=False)
    b.load_state_dict(libraries.to_transformers(weights), strict=False)
    given = images(60, 52)
    with torch.no_grad():
        torch.testing.assert_close(a(given), b(given).logits, rtol=0, atol=1e-4)
    for method in (hgi_sam, swin_sam, grad_cam):
        torch.testing.assert_close(method(a, given, 1), method(b, given, 1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in GRADIENT_FREE_AND_SLOW])
def test_a_volume_of_equal_slices_has_the_map_of_the_slice(method: str) -> None:
    """Windows hold all slices, so that attention is that of a slice, shared out among them."""
    flat = libraries.monai_swin(axes=2)
    deep = libraries.PooledHead(
        MonaiSwinTransformer(1, 12, (16, 2, 2), (1, 2, 2), libraries.DEPTHS, (1, 2, 2, 4), spatial_dims=3), 12 * 16
    ).eval()
    missing, unexpected = deep.load_state_dict(libraries.in_depth(flat.state_dict(), 16), strict=False)
    assert not unexpected
    assert all(key.endswith("relative_position_index") for key in missing)
    slices = images(32, 48, channels=1, batch=1)
    volumes = slices[:, :, None].repeat(1, 1, 16, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(deep(volumes), flat(slices), rtol=1e-4, atol=1e-5)
    expected = METHODS[method](flat, slices, 1)
    got = METHODS[method](deep, volumes, 1)
    assert got.shape == (1, 16, 32, 48)
    assert expected.max() == 1
    if method == "relevance":  # R + ĀR: a slice has only a share of Ā, so that products of several Ā are smaller
        torch.testing.assert_close(got, got[:, :1].expand_as(got), rtol=0, atol=2e-4)
        assert torch.corrcoef(torch.stack([got[:, 0].flatten(), expected.flatten()]))[0, 1] > 0.99
        return
    torch.testing.assert_close(got, expected[:, None].expand_as(got), rtol=0, atol=2e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["torchvision padded", "transformers padded", "MONAI 3-D padded", "SwinUNETR 2-D"])
def test_every_method_on_every_library(name: str, method: str) -> None:
    model, given, logit = build(name)
    options: dict[str, Any] = {"steps": 4} if method == "integrated_gradients" else {}
    maps = METHODS[method](model, given, 1, logit=logit, **options)
    assert maps.shape == (2, *given.shape[2:])
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert maps.min() == 0
    assert maps.max() == 1 or method in {"grad_cam", "ablation_cam"}  # no evidence
    brain = torch.zeros_like(maps)
    brain[:, 8:24, 8:24] = 1
    masked = METHODS[method](model, given, 1, logit=logit, brain=brain, **options)
    assert masked[brain == 0].abs().sum() == 0
    single = METHODS[method](model, given[1:], 1, logit=logit, **options)
    torch.testing.assert_close(maps[1:], single, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "padded" not in name and "UNETR" not in name])
def test_bfloat16_changes_little(name: str) -> None:
    model, given, logit = build(name)
    exact = hgi_sam(model, given, 1, logit=logit)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = hgi_sam(model, given, 1, logit=logit)
    assert maps.dtype == torch.float32
    assert float((maps - exact).abs().mean()) < 0.05


def test_a_window_of_the_size_of_the_volume_is_the_plain_map() -> None:
    model, volumes, _ = build("MONAI 3-D")
    for method in (hgi_sam, swin_sam):
        whole = sliding_windows(method, model, volumes, 1, size=(64, 64, 64))
        torch.testing.assert_close(whole, method(model, volumes, 1), rtol=1e-4, atol=1e-5)


def test_windows_count_with_their_probability_and_cover_everything() -> None:
    """Two windows side by side, of which the classifier is sure of the right one alone."""
    model, volumes, _ = build("MONAI 3-D")
    volumes = torch.cat([volumes, volumes], dim=-1)[:1]  # equal halves
    sure = iter([torch.zeros(1), torch.ones(1)])
    maps = sliding_windows(
        swin_sam, model, volumes, 1, size=(32, 32, 32), overlap=0.0, probability=lambda _: next(sure)
    )
    assert maps.shape == (1, 32, 32, 64)
    assert maps[..., :32].abs().sum() == 0
    torch.testing.assert_close(maps[..., 32:], swin_sam(model, volumes[..., 32:], 1), rtol=1e-4, atol=1e-5)
    maps = sliding_windows(hgi_sam, model, volumes, 1, size=(32, 16, 32), overlap=0.5, brain=torch.ones(1, 32, 32, 64))
    assert maps.max() == 1
    assert (maps > 0).float().mean() > 0.5


@pytest.mark.parametrize(("size", "overlap"), [((32, 32), 0.5), ((32, 32, 0), 0.5), ((32, 32, 32), 1.0)])
def test_sizes_of_windows_that_do_not_fit(size: tuple[int, ...], overlap: float) -> None:
    model, volumes, _ = build("MONAI 3-D")
    with pytest.raises(InputError, match="size and overlap"):
        sliding_windows(swin_sam, model, volumes, 1, size=size, overlap=overlap)


def test_a_logit_of_features() -> None:
    model, volumes, _ = build("MONAI 3-D")

    def classify(features: list[Tensor]) -> Tensor:
        logits: Tensor = model.head(model.norm(features[-1].flatten(2).transpose(1, 2)).mean(dim=1))
        return logits

    for name in METHODS.keys() - GRADIENT_FREE_AND_SLOW:
        expected = METHODS[name](model, volumes[:1], 2)
        found = METHODS[name](model.swin, volumes[:1], 2, logit=classify)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())

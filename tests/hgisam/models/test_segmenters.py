"""Segmenters of the supervised baselines."""

import pytest
import torch

from hgisam.config.profile import load_profile, profile_names
from hgisam.models.segmenters import build_segmenter
from tests.conftest import SWIN_UNETR

BASIC = "segmenter.architecture=basic_unet"
SEGMENTERS = [[], ["segmenter.norm=none"], [BASIC], [BASIC, "segmenter.norm=none"], SWIN_UNETR]
NAMES = ["unet", "unet without norm", "basic_unet", "basic_unet without norm", "swin_unetr"]


def built(name: str, overrides: list[str]) -> torch.nn.Module:
    return build_segmenter(load_profile(name, overrides).segmenter, channels=3, classes=2)


@pytest.mark.parametrize("overrides", SEGMENTERS, ids=NAMES)
@pytest.mark.parametrize("windows", [1, 3])
def test_logits_of_every_pixel_and_gradients_of_every_parameter(overrides: list[str], windows: int) -> None:
    torch.manual_seed(0)
    model = build_segmenter(load_profile("smoke", overrides).segmenter, channels=windows, classes=2)
    logits = model(torch.randn(2, windows, 64, 64))
    assert logits.shape == (2, 2, 64, 64)
    torch.nn.functional.cross_entropy(logits, torch.randint(2, (2, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_builds(name: str) -> None:
    assert built(name, []).training
    assert built(name, SWIN_UNETR).training


def test_levels_and_norms_of_the_unet() -> None:
    options = ["segmenter.channels=[24,48,96,192]"]
    norms = ("none", "batch", "instance")
    plain, *normed = (built("smoke", [*options, f"segmenter.norm={norm}"]) for norm in norms)
    kinds = [{type(module).__name__ for module in model.modules()} for model in (plain, *normed)]
    assert [kind - kinds[0] for kind in kinds[1:]] == [{"BatchNorm2d"}, {"InstanceNorm2d"}]
    widths = {m.out_channels for m in plain.modules() if isinstance(m, torch.nn.Conv2d)}
    assert widths == {24, 48, 96, 192, 2}


def test_the_basic_unet_is_the_released_one() -> None:
    """Two convolutions of 3 × 3 per level, max pooling, no normalisation, no residuals."""
    network = built("smoke", [BASIC, "segmenter.channels=[24,48,96,192]", "segmenter.norm=none"])
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds.count("MaxPool2d") == kinds.count("ConvTranspose2d") == 3
    assert not [kind for kind in kinds if "Norm" in kind or "Residual" in kind]
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [24, 24, 48, 48, 96, 96, 192, 192, 96, 96, 48, 48, 24, 24, 2]
    assert {m.kernel_size for m in convolutions[:-1]} == {(3, 3)}


def test_the_swin_unetr_is_the_one_of_the_paper() -> None:
    """Feature size 12; depths 2, 2, 2, 2; heads 2, 4, 8, 16."""
    swin = built("smoke", SWIN_UNETR).swinViT
    assert swin.patch_embed.proj.out_channels == 12
    stages = [stage[0].blocks for stage in (swin.layers1, swin.layers2, swin.layers3, swin.layers4)]
    assert [len(blocks) for blocks in stages] == [2, 2, 2, 2]
    assert [blocks[0].attn.num_heads for blocks in stages] == [2, 4, 8, 16]

"""Which networks a profile may ask for, and how it says so."""

import pytest

from hgisam.config.networks import SwinShape, named_shape
from hgisam.config.profile import load_profile
from hgisam.errors import InputError
from tests.conftest import NO_NUMBERS, SWIN_UNETR


def test_the_name_of_a_swin_says_its_numbers() -> None:
    base = SwinShape(patch_px=4, channels=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32))
    assert named_shape("swin_base_patch4_window12_384") == base
    assert named_shape("swin_tiny_patch4_window7_224") == SwinShape(4, 96, (2, 2, 6, 2), (3, 6, 12, 24))
    assert load_profile("paper").model.shape == base
    assert load_profile("laptop").model.shape == SwinShape(4, 32, (2, 2, 2, 2), (2, 4, 8, 16))
    named = load_profile("laptop", [*NO_NUMBERS, "model.architecture=swin_tiny_patch4_window7_224"])
    assert named.model.shape.channels == 96
    assert named.model.window_tokens == 6


@pytest.mark.parametrize(
    ("profile", "override", "message"),
    [
        ("paper", "model.channels=128", "model.channels: got 128, expected null, since .* is swin_base"),
        ("paper", "model.patch_px=4", "model.patch_px: got 4, expected null"),
        ("paper", "model.architecture=null", "model.patch_px: got null, expected a value"),
        ("paper", "data.image_px=400", "multiple of 8 × 4 × 12 = 384"),
        ("paper", "model.architecture=swin_bas_patch4_window12_384", "Nearest: swin_base_patch4_window12_384"),
        ("paper", "model.architecture=swin_tiny_patch4_window7_224.ms_in1k", "Nearest: swin_tiny_patch4_window7_224,"),
        ("paper", "model.architecture=resnet50", "Nearest: .*swin_tiny"),
        ("laptop", "model.heads=null", "model.heads: got null, expected a value, since model.architecture is null"),
        ("laptop", "model.architecture=swin_tiny_patch4_window7_224", "model.patch_px: got 4, expected null"),
        ("laptop", "model.heads=[3,4,8,16]", "heads.0: got 3, expected a divisor of the 32 channels of stage 1"),
        ("laptop", "model.depths=[2,2]", "at least 4 items"),
        ("laptop", f"model.pretrained_sha256={'a' * 64}", "expected null, since model.pretrained is null"),
        ("laptop", "model.pretrained_sha256=abc", "match pattern"),
    ],
)
def test_a_swin_is_said_in_one_way(profile: str, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile(profile, [override])


def test_swin_unetr_in_place_of_the_unet() -> None:
    assert load_profile("smoke").segmenter.halvings == 3
    assert load_profile("smoke", SWIN_UNETR).segmenter.halvings == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["segmenter.architecture=vnet"], "'unet', 'basic_unet' or 'swin_unetr'"),
        (["segmenter.architecture=swin_unetr"], "segmenter.channels: got .*, expected null, since .* is swin_unetr"),
        (["segmenter.norm=null"], "segmenter.norm: got null, expected a value, since .* is unet"),
        (["segmenter.feature_size=12"], "segmenter.feature_size: got 12, expected null, since .* is unet"),
        ([*SWIN_UNETR, "segmenter.heads=null"], "segmenter.heads: got null, expected a value"),
        ([*SWIN_UNETR, "segmenter.heads=[5,4,8,16]"], "segmenter.heads.0: got 5, expected a divisor of the 12"),
        ([*SWIN_UNETR, "segmenter.feature_size=16"], "multiple of 12"),
        ([*SWIN_UNETR, "data.image_px=32", "model.patch_px=2"], "image_px: got 32, .* multiple of 32, at least 64"),
        ([*SWIN_UNETR, "data.image_px=80", "model.patch_px=1", "model.window_tokens=5"], "image_px: got 80, .* of 32"),
    ],
)
def test_keys_and_sizes_that_a_segmenter_cannot_use_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_profile("smoke", overrides)

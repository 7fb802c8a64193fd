"""FocalSegNet: its modulation is timm's in one slice, its patches are balanced, and it learns a coarse label."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models import focalnet
from torch import nn

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam_book.systems.focal_segnet import Batch, FocalSegNet, patch_of, patches_with
from hgisam_book.systems.focal_unet import KERNELS, PAPER_WIDTHS, FocalBlock, FocalModulation, FocalUNet
from hgisam_book.systems.training import FILES, fit_system, load_system, read_slices, scans
from tests.conftest import TINY, make_prepared

SYSTEM = FocalSegNet(slices=8, pixel_mm=200 / 32)  # the pixels of the set, which stay as they are


@pytest.fixture
def profile() -> Profile:
    """Whole slices of 32 pixels, and eight channels."""
    overrides = [
        "task=segmentation", "train.monitor=dice", "train.crop_px=32", "segmenter.channels=[8,8,8,8]",
        "train.batch_size=2", "train.learning_rate=3e-3", "train.epochs=8", "train.passes=6", "train.augment.hide=0",
    ]  # fmt: skip
    return load_profile("smoke", [*TINY, *overrides])


@pytest.fixture
def balls(tmp_path: Path) -> PreparedDataset:
    """Scans of six slices, every other with a bright square."""
    return open_prepared(make_prepared(tmp_path / "set"))


def timm_block(flat: FocalBlock, channels: int) -> nn.Module:
    """timm's block in two dimensions with the weights of the middle slices of ours."""
    two = focalnet.FocalNetBlock(channels, focal_level=len(KERNELS), focal_window=KERNELS[0], layerscale_value=None)
    names = {"project": "f", "modulator": "h", "out": "proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    names |= {f"contexts.{k}": f"focal_layers.{k}.0" for k in range(len(KERNELS))}
    state = {}
    for name, weight in flat.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(f"{ours}.", f"{theirs}.")
        if weight.ndim == 5:
            weight = weight[:, :, weight.shape[2] // 2]
        like = two.state_dict()[name]
        state[name] = weight.reshape(like.shape)
    two.load_state_dict(state)
    for norm in (two.norm1, two.norm2):
        norm.eps = flat.norm1.eps
    return two


def test_gradients_contain_no_memory_that_was_never_written() -> None:
    """Kernels deeper than the volume, in bfloat16, with an allocator that fills memory with huge numbers (glibc)."""
    code = """
import torch
from hgisam_book.systems.focal_unet import FocalModulation
torch.manual_seed(0)
modulation = FocalModulation(16)
with torch.autocast("cpu", torch.bfloat16):
    found = modulation(torch.rand(2, 6, 16, 16, 16))
found.float().square().mean().backward()
print(max(float(weight.grad.abs().max()) for weight in modulation.parameters()))
"""
    clean, filled = (
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | more, capture_output=True, text=True, check=True
        ).stdout
        for more in ({}, {"MALLOC_PERTURB_": "128"})
    )
    assert float(filled) == pytest.approx(float(clean), rel=1e-3)


@pytest.mark.parametrize("flat", [False, True])
def test_one_slice_is_focalnet_of_timm(flat: bool) -> None:
    torch.manual_seed(0)
    block = FocalBlock(8, flat)
    features = torch.randn(2, 1, 9, 11, 8)
    theirs, image = timm_block(block, 8), features[:, 0].movedim(-1, 1)
    for ours, two in ((block.modulation, theirs.modulation), (block, theirs)):
        torch.testing.assert_close(ours(features)[:, 0].movedim(-1, 1), two(image), atol=1e-5, rtol=0)


def test_modulation_reaches_other_slices_unless_flat() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 15, 4, 4, 4)
    changed = features.clone()
    changed[:, 7] += torch.randn(4, 4, 4)
    for flat, reach in ((False, sum(side // 2 for side in KERNELS)), (True, 0)):
        modulation = FocalModulation(4, flat)
        nn.init.zeros_(modulation.project.weight[-1])  # the gate of the mean, which reaches everywhere
        nn.init.zeros_(modulation.project.bias[-1:])
        moved = (modulation(features) - modulation(changed)).abs().amax(dim=(0, 2, 3, 4)) > 1e-7
        assert moved.nonzero().flatten().tolist() == list(range(7 - reach, 8 + reach))


def test_network_has_the_widths_of_the_paper_and_keeps_the_shape() -> None:
    network = FocalUNet(1, 2)
    assert network(torch.zeros(1, 1, 4, 32, 64)).shape == (1, 2, 4, 32, 64)
    assert [up.in_channels for up in network.up] == [*PAPER_WIDTHS, 384]
    with pytest.raises(InputError, match=r"segmenter\.channels"):
        FocalUNet(1, 2, widths=(8, 16))


def test_every_weight_has_a_gradient() -> None:
    torch.manual_seed(0)
    network = FocalUNet(3, 2, widths=(2, 4, 4, 4))
    network(torch.randn(2, 3, 8, 64, 64)).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_patches_with_a_mask() -> None:
    mask = np.zeros((3, 5, 6), bool)
    mask[1, 2, 4] = True
    found = patches_with(mask, (2, 3, 2))
    expected = [[[mask[z : z + 2, r : r + 3, c : c + 2].any() for c in range(5)] for r in range(3)] for z in range(2)]
    np.testing.assert_array_equal(found, expected)


def test_patches_with_and_without_a_label(balls: PreparedDataset, profile: Profile) -> None:
    rng = np.random.default_rng(0)
    scan = read_slices(balls, scans(balls, "train")[0], profile)
    for with_label in (True, False):
        for _ in range(5):
            images, mask = patch_of(scan, (8, 16, 16), with_label, rng)
            assert images.shape == (3, 8, 16, 16)
            assert mask.any() == with_label
            assert not images[:, 0].any()
            assert not images[:, 7].any()  # six slices between one of padding above and below


def test_slices_are_reduced_to_the_pixels_of_the_network(balls: PreparedDataset, profile: Profile) -> None:
    scan = read_slices(balls, scans(balls, "train")[0], profile)
    reduced = replace(SYSTEM, pixel_mm=200 / 16)._reduced(scan, balls)
    assert reduced.mask is not None
    assert scan.mask is not None
    torch.testing.assert_close(reduced.hu, scan.hu.reshape(6, 16, 2, 16, 2).mean(dim=(2, 4)))
    torch.testing.assert_close(reduced.images, scan.images.reshape(6, 3, 16, 2, 16, 2).mean(dim=(3, 5)))
    assert torch.equal(reduced.mask, (scan.mask.reshape(6, 16, 2, 16, 2).sum(dim=(2, 4)) >= 2).float())
    images, mask = patch_of(reduced, (8, 32, 32), True, np.random.default_rng(0))
    torch.testing.assert_close(images[:, 1:7, 8:24, 8:24], reduced.images.transpose(0, 1))  # padded on all sides
    assert mask.sum() == reduced.mask.sum()
    for side in (32, 16):  # the map has the pixels of the set
        system = replace(SYSTEM, pixel_mm=200 / side)
        found = system._probability(system.network(profile).eval(), balls, scans(balls, "val")[0], profile)
        assert found.shape == (6, 32, 32)


def batches_of(data: PreparedDataset, profile: Profile, epoch: int) -> list[Batch]:
    """All batches of an epoch."""
    return [SYSTEM.read(example, data, profile, epoch) for example in SYSTEM.examples(data, profile, epoch)]


def test_batches_are_balanced_and_reproducible(balls: PreparedDataset, profile: Profile) -> None:
    first, again = (batches_of(balls, profile, 1) for _ in range(2))
    assert len(first) == 12  # four scans, six passes, two patches each
    for (images, masks), (same, _) in zip(first, again, strict=True):
        assert masks[0].any()  # the other is of any scan: whole slices leave no choice
        torch.testing.assert_close(images, same)
    other, _ = batches_of(balls, profile, 2)[0]
    assert not torch.equal(first[0][0], other)


def test_learns_the_label_and_the_crf_keeps_to_the_brain(
    balls: PreparedDataset, profile: Profile, tmp_path: Path
) -> None:
    fit_system(SYSTEM, profile, balls, tmp_path)
    assert all((tmp_path / name).is_file() for name in FILES)
    network, own = load_system(SYSTEM, tmp_path)
    assert SYSTEM.validate(network, balls, own) > 0.5
    rows = next(rows for rows in scans(balls, "val") if balls.mask[rows].any())  # type: ignore[index]
    maps = SYSTEM.maps(network, balls, rows, own)
    assert list(maps) == ["focal_segnet", "focal_segnet_crf"]
    for values in maps.values():
        assert values.shape == (6, 32, 32)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= 1
        assert not values[balls.brain[rows] == 0].any()
    again = SYSTEM.maps(network, balls, rows, own)
    np.testing.assert_array_equal(maps["focal_segnet_crf"], again["focal_segnet_crf"])


def test_patches_that_do_not_fit(balls: PreparedDataset, profile: Profile) -> None:
    for side in (None, 24):
        other = profile.model_copy(update={"train": profile.train.model_copy(update={"crop_px": side})})
        with pytest.raises(InputError, match=f"train.crop_px {side}, expected multiples of 4 slices and 32 pixels"):
            next(SYSTEM.examples(balls, other, 0))
    for slices in (4, 6):  # one voxel after all strides, or one and a half
        with pytest.raises(InputError, match=f"got {slices} slices"):
            next(replace(SYSTEM, slices=slices).examples(balls, profile, 0))


def test_a_set_without_masks(profile: Profile, tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", with_mask=False))
    with pytest.raises(InputError, match="masks"):
        next(SYSTEM.examples(data, profile, 0))
    with pytest.raises(InputError, match="mask"):
        patch_of(read_slices(data, np.arange(6), profile), (8, 32, 32), True, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["smoke", "laptop", "paper"])
def test_shipped_profiles_fit(name: str) -> None:
    own = load_profile(name).variant("focal_segnet")
    assert own.task == "segmentation"
    assert own.train.augment.hide == 0
    assert FocalSegNet()._size(own)[1] == own.train.crop_px

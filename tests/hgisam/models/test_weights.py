"""Local pretrained weights: adapted to another input, refused for another architecture."""

import hashlib
import logging
import re
from pathlib import Path

import pytest
import torch
from timm.models import load_pretrained as load_as_timm_does
from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch import Tensor

from hgisam.config.profile import load_profile
from hgisam.errors import InputError
from hgisam.models.checkpoint import save_tensors
from hgisam.models.networks import build_network
from hgisam.models.weights import PATCHES, TABLE, load_initial_weights, load_local_weights
from tests.conftest import TINY

Weights = dict[str, Tensor]
SHAPE = {"patch_size": 2, "embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4)}


def _swin(seed: int = 0, **changes: object) -> SwinTransformer:
    torch.manual_seed(seed)
    options = {"img_size": 32, "window_size": 2, "in_chans": 3, "num_classes": 5, **SHAPE, **changes}
    return SwinTransformer(**options).eval()


def _loaded(weights: Weights, folder: Path, **changes: object) -> SwinTransformer:
    """A network with other random weights, after loading the file."""
    save_tensors(folder / "weights.safetensors", weights)
    model = _swin(1, num_classes=2, **changes)
    load_local_weights(model, folder / "weights.safetensors")
    return model


def _without_head(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if not key.startswith("head.")}


def _as_its_authors_stored(weights: Weights) -> Weights:
    """State dict of the Swin authors: patches merged at the end of a stage, a flat head, buffers."""
    old = {}
    for key, value in weights.items():
        merge = re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key)
        old[merge.replace("head.fc.", "head.")] = value
    for block in ("layers.0.blocks.0", "layers.0.blocks.1"):
        old[f"{block}.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.int64)
    return old | {"layers.0.blocks.1.attn_mask": torch.zeros(64, 4, 4)}


def _assert_same(found: Weights, expected: Weights) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_the_same_swin_is_loaded_unchanged_without_its_head(tmp_path: Path) -> None:
    weights = _swin().state_dict()
    model = _loaded(weights, tmp_path)
    _assert_same(_without_head(model.state_dict()), _without_head(weights))
    _assert_same(model.head.state_dict(), _swin(1, num_classes=2).head.state_dict())


@pytest.mark.parametrize(
    ("windows", "expected"), [(1, [6.0]), (2, [1.5, 3.0]), (3, [1.0, 2.0, 3.0]), (4, [0.75, 1.5, 2.25, 0.75])]
)
def test_color_channels_become_windows(windows: int, expected: list[float], tmp_path: Path) -> None:
    """One window gets the sum; more get the colors in turn, scaled so that a gray image has the same output."""
    weights = _swin().state_dict()
    weights[PATCHES] = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(8, 3, 2, 2)
    patches = _loaded(weights, tmp_path, in_chans=windows).state_dict()[PATCHES]
    torch.testing.assert_close(patches, torch.tensor(expected).view(1, -1, 1, 1).expand(8, windows, 2, 2))


@pytest.mark.parametrize(("before", "after"), [(12, 6), (4, 2), (2, 4), (7, 6)])
def test_a_constant_position_table_stays_constant(before: int, after: int, tmp_path: Path) -> None:
    weights = _swin(window_size=before, img_size=16 * before).state_dict()
    for key, value in weights.items():
        if key.endswith(TABLE):
            weights[key] = torch.arange(1.0, 1 + value.shape[1]).expand_as(value)
    model = _loaded(weights, tmp_path, window_size=after, img_size=16 * after)
    for key, value in model.state_dict().items():
        if key.endswith(TABLE):
            assert len(value) == (2 * after - 1) ** 2
            torch.testing.assert_close(value, torch.arange(1.0, 1 + value.shape[1]).expand_as(value))


def test_a_position_table_keeps_its_middle_and_its_symmetry(tmp_path: Path) -> None:
    """A bias that falls with distance, from 0 at the token itself, does so after a change of the window size."""
    weights = _swin(window_size=6, img_size=96).state_dict()
    key = f"layers.0.blocks.0.attn.{TABLE}"
    offsets = torch.arange(-5.0, 6)
    weights[key] = -torch.hypot(offsets[:, None], offsets[None]).view(-1, 1)
    table = _loaded(weights, tmp_path, window_size=4, img_size=64).state_dict()[key].view(7, 7)
    assert table[3, 3] == 0
    assert (table[3, 3:].diff() < 0).all()
    torch.testing.assert_close(table, table.flip(0, 1))
    torch.testing.assert_close(table, table.T)


@pytest.mark.parametrize(
    "changes",
    [{}, {"in_chans": 1}, {"in_chans": 4}, {"window_size": 4, "img_size": 64}, {"patch_size": 4, "img_size": 64}],
    ids=str,
)
@pytest.mark.parametrize("old", [False, True], ids=["timm", "authors"])
def test_loads_like_timm(changes: dict[str, int], old: bool, tmp_path: Path) -> None:
    """The same result as timm's own loading of the same state dict into the same network."""
    weights = _swin().state_dict()
    theirs = _swin(1, num_classes=2, **changes)
    given = _as_its_authors_stored(weights) if old else weights
    classifier = {"num_classes": 5, "first_conv": "patch_embed.proj", "classifier": "head.fc"}
    config = {"state_dict": dict(given), "input_size": (3, 32, 32), **classifier}
    load_as_timm_does(
        theirs, config, num_classes=2, in_chans=theirs.in_chans, filter_fn=checkpoint_filter_fn, strict=False
    )
    ours = _loaded(given, tmp_path, **changes)
    _assert_same(ours.state_dict(), theirs.state_dict())
    images = torch.randn(2, theirs.in_chans, *theirs.patch_embed.img_size)
    logits = ours(images)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits, theirs(images))


def test_the_log_names_adapted_and_new_tensors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hgisam"):
        _loaded(_swin().state_dict(), tmp_path, in_chans=1)
    assert "adapted patch_embed.proj.weight; new head.fc.weight, head.fc.bias" in caplog.text
    assert TABLE not in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 16}, r"where patch_embed.proj.weight is \[16, 3, 2, 2\], expected \[8, 3, 2, 2\]"),
        ({"depths": (2, 2, 4, 2)}, rf"where layers.2.blocks.2.attn.{TABLE} is \[9, 2\], expected absent"),
        ({"depths": (2, 2, 1, 2)}, r"where layers.2.blocks.1.norm1.weight is absent, expected \[32\]"),
        ({"num_heads": (2, 2, 2, 4)}, rf"where layers.0.blocks.0.attn.{TABLE} is \[9, 2\], expected \[9, 1\]"),
        ({"qkv_bias": False}, r"where layers.0.blocks.0.attn.qkv.bias is absent, expected \[24\]"),
    ],
    ids=str,
)
def test_another_architecture_is_refused(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _loaded(_swin(**changes).state_dict(), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (PATCHES, torch.zeros(8, 12)),
        (f"layers.0.blocks.0.attn.{TABLE}", torch.zeros(9)),
        (f"layers.0.blocks.0.attn.{TABLE}", torch.zeros(15, 1)),
        (f"layers.0.blocks.0.attn.{TABLE}", torch.zeros(16, 1)),
        ("norm.weight", torch.zeros(63)),
        ("layers.4.norm.weight", torch.zeros(8)),
    ],
)
def test_odd_tensors_are_named_and_leave_the_model_unchanged(key: str, value: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    save_tensors(file, _swin().state_dict() | {key: value})
    model = _swin(1)
    with pytest.raises(InputError, match=f"where {key} is "):
        load_local_weights(model, file)
    _assert_same(model.state_dict(), _swin(1).state_dict())


def test_a_profile_starts_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "backbone.safetensors"
    torch.manual_seed(5)
    donor = build_network(load_profile("smoke", TINY))
    save_tensors(file, donor.state_dict())
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    profile = load_profile("smoke", [*TINY, f"model.pretrained={file}", f"model.pretrained_sha256={sha256}"])
    network = build_network(profile)
    load_initial_weights(network, profile)
    _assert_same(_without_head(network.state_dict()), _without_head(donor.state_dict()))
    untouched = build_network(profile)
    assert not torch.equal(untouched.patch_embed.proj.weight, donor.patch_embed.proj.weight)
    other = load_profile("smoke", [*TINY, f"model.pretrained={file}", f"model.pretrained_sha256={'a' * 64}"])
    with pytest.raises(InputError, match=f"{sha256}, expected {'a' * 64}"):
        load_initial_weights(build_network(other), other)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/swin_tiny", "timm/swin_tiny.ms_in1k", "https://example.org/swin.safetensors", "none.safetensors"],
)
def test_nothing_is_downloaded(name: str) -> None:
    profile = load_profile("smoke", [*TINY, f"model.pretrained={name}"])
    with pytest.raises(InputError, match=r"expected a safetensors file. Nothing is downloaded .*hf download timm/"):
        load_initial_weights(build_network(profile), profile)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not a tensor in sight")
    with pytest.raises(InputError, match=r"unreadable .*expected a safetensors file"):
        load_local_weights(_swin(), file)

"""Checkpoints: round trip, broken files, and those that ship with the package."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError, exit_line
from hgisam.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_pretrained,
    load_tensors,
    save_checkpoint,
    save_tensors,
    shipped_checkpoints,
)
from hgisam.models.networks import build_network
from tests.conftest import TINY, untrained


def _saved(folder: Path, tiny: Profile) -> Checkpoint:
    preprocess = replace(Preprocessor.of(tiny), mean=torch.tensor([0.1, 0.2, 0.3]), std=torch.ones(3))
    checkpoint = Checkpoint(build_network(tiny), tiny, preprocess, 0.4)
    save_checkpoint(folder, checkpoint, {})
    return checkpoint


def test_round_trip(tmp_path: Path, tiny: Profile) -> None:
    saved = _saved(tmp_path, tiny)
    loaded = load_checkpoint(tmp_path)
    assert loaded.profile == tiny
    assert loaded.detection_threshold == 0.4
    assert not loaded.model.training
    slices = torch.randint(-1000, 1000, (2, 32, 32), dtype=torch.int16), torch.ones(2, 32, 32)
    saved.model.eval()
    torch.testing.assert_close(
        loaded.probability(loaded.preprocess(*slices)), saved.probability(saved.preprocess(*slices))
    )


def test_broken_checkpoints_are_refused(tmp_path: Path, tiny: Profile) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        load_checkpoint(tmp_path)
    _saved(tmp_path, tiny)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="unreadable"):
        load_checkpoint(tmp_path)
    other = load_profile("smoke", [*TINY, "model.channels=32"])
    save_tensors(weights, build_network(other).state_dict())
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(tmp_path)


def test_shipped_checkpoints_load_and_have_a_model_card() -> None:
    shipped = shipped_checkpoints()
    assert set(shipped) == {"phantom-binary", "phantom-subtype"}
    for name, folder in shipped.items():
        checkpoint = load_pretrained(name)
        size = checkpoint.profile.data.image_px
        with torch.no_grad():
            images = checkpoint.preprocess(torch.full((2, size, size), 35.0), torch.ones(2, size, size))
            score = checkpoint.probability(images)
        assert checkpoint.profile.task == name.removeprefix("phantom-")
        assert ((score > 0) & (score < 1)).all()
        assert next(checkpoint.model.parameters()).dtype == torch.float32
        assert (folder / "model.safetensors").stat().st_size < 8e6
        assert "never" in (folder / "README.md").read_text()
        assert {path.name for path in folder.iterdir()} == {
            "README.md", "calibration.json", "manifest.json", "model.json", "model.safetensors", "thresholds.json",
            "train.csv",
        }  # fmt: skip


def test_a_folder_is_as_good_as_a_name(tmp_path: Path, tiny: Profile) -> None:
    network = build_network(tiny)
    save_checkpoint(tmp_path, untrained(network, tiny), {})
    loaded = load_pretrained(str(tmp_path)).model
    assert torch.equal(loaded.head.fc.weight, network.head.fc.weight)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"checkpoint: got 'phantom-brain', expected one of phantom-binary"):
        load_pretrained("phantom-brain")


def test_a_full_disk_is_a_system_error_and_the_earlier_file_stays_whole(small_disk: Path) -> None:
    path = small_disk / "model.safetensors"
    save_tensors(path, {"weight": torch.ones(10)})
    with pytest.raises(OSError, match="No space left") as full:
        save_tensors(path, {"weight": torch.ones(100_000)})
    assert exit_line(full.value)[1].startswith("Stopped: the disk is full")
    assert [file.name for file in small_disk.iterdir()] == ["model.safetensors"]
    assert load_tensors(path)["weight"].shape == (10,)

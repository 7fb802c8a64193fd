"""Checkpoints by name or by folder."""

from pathlib import Path

import pytest
import torch

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_pretrained, save_checkpoint, shipped_checkpoints
from hgisam.models.networks import build_network
from tests.conftest import untrained


def test_what_ships_loads_and_says_what_it_is() -> None:
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
            "README.md", "manifest.json", "model.json", "model.safetensors", "train.csv"
        }  # fmt: skip


def test_a_folder_does_as_well_as_a_name(tmp_path: Path, tiny: Profile) -> None:
    network = build_network(tiny)
    save_checkpoint(tmp_path, untrained(network, tiny), {})
    loaded = load_pretrained(str(tmp_path)).model
    assert torch.equal(loaded.head.fc.weight, network.head.fc.weight)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"checkpoint: got 'phantom-brain', expected one of phantom-binary"):
        load_pretrained("phantom-brain")

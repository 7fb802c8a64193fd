"""Exports: small, with a model card from their own files, and without traces of this machine."""

from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.models import checkpoint as checkpoints
from hgisam.models.checkpoint import load_pretrained, load_tensors
from hgisam.pipeline import train_step
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam_book.recorded import export
from hgisam_book.recorded.export import PATH_KEYS, export_checkpoint, halved, without_paths
from tests.conftest import TINY, make_prepared


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training on 24 patients, started from another one in a folder with a private name."""
    runs = tmp_path_factory.mktemp("home-of-alice")
    start_from: Path | str = "null"
    for name in ("base", "smoke"):
        make_prepared(runs / name / "prepared" / "rsna", patients=24, with_mask=False)
        start_from = train_step(load_profile("smoke", [*TINY, f"name={name}", f"train.start_from={start_from}"]), runs)
    return runs / "smoke"


def synthetic(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    """Treat the test data as a phantom, and ship to a folder of the test."""
    monkeypatch.setattr(export, "is_phantom", lambda _: True)
    for module in (export, checkpoints):
        monkeypatch.setattr(module, "SHIPPED", package / "checkpoints")


def test_half_precision_keeps_values_and_integer_tensors() -> None:
    half = halved({"weight": torch.tensor([1.0, 65504.0]), "index": torch.tensor([70000])})
    assert half["weight"].dtype == torch.float16
    assert half["weight"].tolist() == [1.0, 65504.0]
    assert half["index"].dtype == torch.int64
    assert half["index"].item() == 70000
    with pytest.raises(InputError, match=r"weight head: got values up to 7e\+04"):
        halved({"head": torch.tensor([-7e4])})


def test_scores_of_the_export_are_those_of_the_training(run: Path, tmp_path: Path) -> None:
    loaded = load_pretrained(str(export_checkpoint(run / "train", tmp_path / "small")))
    data = open_prepared(run / "prepared" / "rsna")
    predicted = pd.read_parquet(run / "train" / "predictions.parquet")
    hu, brain = (torch.from_numpy(array[predicted["row"].to_numpy()]) for array in (data.hu, data.brain))
    with torch.no_grad():
        scores = loaded.probability(loaded.preprocess(hu, brain))
    np.testing.assert_allclose(scores, predicted["score"], atol=5e-3)
    assert next(loaded.model.parameters()).dtype == torch.float32
    full, half = (folder / "model.safetensors" for folder in (run / "train", tmp_path / "small"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert set(load_tensors(half)) == set(load_tensors(full))


def test_the_card_agrees_with_the_files(run: Path, tmp_path: Path) -> None:
    folder = export_checkpoint(run / "train", tmp_path / "small")
    card, about = (folder / "README.md").read_text(), read_json(folder / "model.json")
    parameters = sum(p.numel() for p in load_pretrained(str(folder)).model.parameters())
    assert f"{parameters:,} parameters, trained for the task `binary` with the profile `smoke`" in card
    assert "swin (patch 2, window 2, 16 channels" in card
    assert "| Classes | no bleeding, bleeding |" in card
    assert "| Patients | 12 train, 12 val |" in card
    assert "| Slices | 72 train (12 bleed), 72 val (12 bleed) |" in card
    assert f"| AUROC of slices, any bleeding | {about['validation']['val_auroc']:.3f} |" in card
    assert 'load_pretrained("path/to/small")' in card
    assert "never for diagnosis" in card
    assert "{" not in card
    manifest = read_json(folder / "manifest.json")
    assert manifest["exported"]["model.safetensors"] == sha256_of(folder / "model.safetensors")
    assert set(manifest["exported"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_exports_reveal_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    assert "alice" in (run / "train" / "model.json").read_text()
    assert "alice" in (run / "train" / "manifest.json").read_text()
    for path in export_checkpoint(run / "train", tmp_path / "small").iterdir():
        assert b"alice" not in path.read_bytes(), path
    base = read_json(tmp_path / "small" / "manifest.json")["inputs"]["start_from"]
    assert base == sha256_of(run.parent / "base" / "train" / "model.safetensors")


def test_names_of_shipped_checkpoints_stay(tiny: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "shipped_checkpoints", lambda: {"phantom-binary": Path("/x")})
    values: dict[str, Any] = tiny.model_dump(mode="json")
    values["train"] |= {"checkpoint": "runs/alice/train", "start_from": "phantom-binary"}
    values["model"] |= {"pretrained": "/home/alice/swin.safetensors", "pretrained_sha256": "0" * 64}
    cleaned = without_paths(values)
    assert cleaned["train"] == tiny.model_dump(mode="json")["train"] | {"start_from": "phantom-binary"}
    assert cleaned["model"] == tiny.model_dump(mode="json")["model"]
    assert values["train"]["checkpoint"] == "runs/alice/train"


def free_text(model: type[BaseModel], above: str = "") -> set[str]:
    """Keys of a profile that can hold any text or path."""
    found = set()
    for key, field in model.model_fields.items():
        waiting: list[Any] = [field.annotation]
        while waiting:
            kind = waiting.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= free_text(kind, f"{above}{key}.")
            elif kind in (str, Path) and not field.metadata:
                found.add(f"{above}{key}")
            elif isinstance(kind, UnionType) or get_origin(kind) in (list, Annotated):
                waiting += get_args(kind)
    return found


def test_every_key_that_can_hold_a_path_is_known() -> None:
    """A new one has to be added to `PATH_KEYS`, or here if it names no file."""
    names = {"windows.name", "model.architecture"}  # the latter is one of timm's
    paths = {f"{section}.{key}" for section, keys in PATH_KEYS.items() for key in keys}
    assert {"model.pretrained", "train.start_from"} <= free_text(Profile) <= paths | names


def test_only_phantoms_ship(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    monkeypatch.setattr(export, "SHIPPED", package / "checkpoints")
    with pytest.raises(InputError, match="trained on real patients"):
        export_checkpoint(run / "train", package / "checkpoints" / "real")
    synthetic(monkeypatch, package)
    for wrong in (package / "other", package / "checkpoints" / "a" / "b", package / "checkpoints" / "a b"):
        with pytest.raises(InputError, match=r"name of a checkpoint|export folder"):
            export_checkpoint(run / "train", wrong)
    assert not package.exists()
    export_checkpoint(run / "train", package / "checkpoints" / "phantom-test")
    assert list(checkpoints.shipped_checkpoints()) == ["phantom-test"]
    assert load_pretrained("phantom-test").profile.name == "smoke"
    card = (package / "checkpoints" / "phantom-test" / "README.md").read_text()
    assert 'load_pretrained("phantom-test")' in card
    assert "synthetic patients (phantoms) only" in card


def test_only_an_earlier_export_is_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "README.md").write_text("mine")
    for precious in (tmp_path / "letters", run / "train"):
        with pytest.raises(InputError, match="other content"):
            export_checkpoint(run / "train", precious)
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert export_checkpoint(run / "train", tmp_path / "empty").is_dir()


def test_unfinished_trainings_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        export_checkpoint(tmp_path / "nowhere", tmp_path / "out")
    old = export_checkpoint(run / "train", tmp_path / "old")
    write_json(old / "model.json", {k: v for k, v in read_json(old / "model.json").items() if k != "data"})
    with pytest.raises(InputError, match="no description of its data"):
        export_checkpoint(old, tmp_path / "out")
    (old / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest\.json"):
        export_checkpoint(old, tmp_path / "out")
    assert not (tmp_path / "out").exists()

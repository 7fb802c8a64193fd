"""Export of a trained network to a publishable folder: float16 weights, a model card, and no paths of this machine."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hgisam.data.prepared import is_phantom
from hgisam.errors import InputError
from hgisam.models.checkpoint import SHIPPED, load_checkpoint, load_tensors, save_tensors, shipped_checkpoints
from hgisam.runs.files import listed, read_json, write_json
from hgisam.runs.folders import is_free, sha256_of, whole_folder
from hgisam.runs.manifest import read_manifest
from hgisam_book.recorded.model_card import model_card

# keys of a profile that name files
PATH_KEYS = {"train": ("checkpoint", "start_from"), "model": ("pretrained", "pretrained_sha256")}


def export_checkpoint(train_folder: str | Path, out: str | Path, manifest: Mapping[str, Any] | None = None) -> Path:
    """Export a training: weights in float16, description, history, manifest, and a model card.

    Args:
        train_folder: Folder of a finished training, `runs/<profile>/train`.
        out: New folder; an earlier export there is replaced. Inside the package it becomes a shipped checkpoint.
        manifest: Of the training, where that in the folder is another, as of one reused from a recorded run.

    Returns:
        The folder `out`.

    Raises:
        InputError: If the training is not finished or has an earlier format, a weight is too large for float16, `out`
            has other content, or a shipped checkpoint would come from real patients.
    """
    train_folder, out = Path(train_folder), Path(out)
    checkpoint, trained = load_checkpoint(train_folder), portable(manifest or read_manifest(train_folder))
    about = read_json(train_folder / "model.json")
    if not isinstance(about.get("data"), dict) or not isinstance(about.get("classes"), list):
        raise InputError(
            f"checkpoint {train_folder}",
            "no description of its data",
            "a description of its training data",
            "Train again.",
        )
    synthetic = is_phantom(about["data"])
    ships = out.resolve().is_relative_to(SHIPPED.parent.resolve())
    _check_out(out, ships=ships, synthetic=synthetic)
    with whole_folder(out) as folder:
        save_tensors(folder / "model.safetensors", halved(load_tensors(train_folder / "model.safetensors")))
        write_json(folder / "model.json", about | {"profile": without_paths(about["profile"])})
        shutil.copyfile(train_folder / "train.csv", folder / "train.csv")
        load = out.name if ships else f"path/to/{out.name}"
        card = model_card(checkpoint, about, trained, load=load, synthetic=synthetic)
        (folder / "README.md").write_text(card, encoding="utf-8")
        exported = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", trained | {"exported": exported})
    return out


def export_system(trained: str | Path, out: str | Path, manifest: Mapping[str, Any] | None = None) -> Path:
    """Export a training of one of `hgisam_book.systems`: weights in float16, description, history and manifest.

    Args:
        trained: Folder of the finished training.
        out: New folder.
        manifest: As for `export_checkpoint`.

    Raises:
        InputError: If the training is not finished, a weight is too large for float16, or `out` is not new.
    """
    trained, out = Path(trained), Path(out)
    about = read_json(trained / "model.json")
    if not is_free(out):
        raise InputError(str(out), "other content", "a new folder", "Choose another folder.")
    with whole_folder(out) as folder:
        save_tensors(folder / "model.safetensors", halved(load_tensors(trained / "model.safetensors")))
        write_json(folder / "model.json", about | {"profile": without_paths(about["profile"])})
        shutil.copyfile(trained / "train.csv", folder / "train.csv")
        write_json(folder / "manifest.json", portable(manifest or read_manifest(trained)))
    return out


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in float16; tensors that are not floating-point keep their type.

    Raises:
        InputError: If a value is too large for float16.
    """
    half = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in half.items():
        if not torch.isfinite(value).all():
            largest = f"{tensors[key].abs().max():.3g}"
            remedy = "Train with more train.weight_decay or a smaller train.learning_rate."
            raise InputError(f"weight {key}", f"values up to {largest}", "at most 65,504 (float16)", remedy)
    return half


def without_paths(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Profile (as JSON) without the paths that it names; the manifest has the hashes of these files.

    Names of shipped checkpoints stay, because they are valid on every machine.
    """
    cleaned = dict(profile)
    for section, keys in PATH_KEYS.items():
        values = cleaned[section]
        emptied = {key: None for key in keys if key in values and values[key] not in shipped_checkpoints()}
        cleaned[section] = values | emptied
    return cleaned


def portable(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Manifest of a step without paths of this machine."""
    return {**manifest, "profile": without_paths(manifest["profile"])}


def _check_out(out: Path, *, ships: bool, synthetic: bool) -> None:
    """Check that only phantoms ship, and that only an earlier export is replaced."""
    if ships and not synthetic:
        remedy = "Set --out to a folder outside the package."
        raise InputError(f"checkpoint {out.name}", "trained on real patients", "phantoms, to ship with hgisam", remedy)
    if ships:
        check_name(out.name)
    if ships and out.resolve().parent != SHIPPED.resolve():
        raise InputError(
            "export folder", str(out), f"one in {SHIPPED.name}/, or outside the package", "Choose another."
        )
    if not is_free(out, listed(out / "manifest.json", "exported")):
        raise InputError(str(out), "other content", "a new folder, or an earlier export", "Choose another folder.")


def check_name(name: str) -> str:
    """Check that the name of a checkpoint is not a path, and return it.

    Raises:
        InputError: If it has characters other than letters, digits, - and _.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError("name of a checkpoint", repr(name), "letters, digits, - and _", "Use e.g. phantom-binary.")
    return name

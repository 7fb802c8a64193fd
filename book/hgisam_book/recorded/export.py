"""From a finished training to a folder that can be given away: half the bytes, a card, and no path of this machine."""

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
from hgisam.runs.steps import read_manifest
from hgisam_book.recorded.model_card import model_card

PLACES = {"train": ("checkpoint", "start_from"), "model": ("pretrained", "pretrained_sha256")}  # keys that name files


def export_checkpoint(train_folder: Path, out: Path) -> Path:
    """Writes weights in float16, their description, history and manifest, and a card for readers.

    Args:
        train_folder: `runs/<profile>/train` of a finished training.
        out: Folder to make; an earlier export there is replaced. Inside the package it becomes a checkpoint that ships.

    Raises:
        InputError: If the training is not finished or of an earlier format, a weight is too large for float16, `out`
            holds something else, or what would ship was trained on real patients.
    """
    checkpoint, manifest = load_checkpoint(train_folder), read_manifest(train_folder)
    about = read_json(train_folder / "model.json")
    if not isinstance(about.get("data"), dict) or not isinstance(about.get("classes"), list):
        raise InputError(f"checkpoint {train_folder}", "no word on its data", "what it saw", "Train again.")
    synthetic = is_phantom(about["data"])
    ships = out.resolve().is_relative_to(SHIPPED.parent.resolve())
    _check_out(out, ships=ships, synthetic=synthetic)
    with whole_folder(out) as folder:
        save_tensors(folder / "model.safetensors", halved(load_tensors(train_folder / "model.safetensors")))
        write_json(folder / "model.json", about | {"profile": without_places(about["profile"])})
        shutil.copyfile(train_folder / "train.csv", folder / "train.csv")
        load = out.name if ships else f"path/to/{out.name}"
        card = model_card(checkpoint, about, manifest, load=load, synthetic=synthetic)
        (folder / "README.md").write_text(card, encoding="utf-8")
        exported = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", portable_manifest(train_folder) | {"exported": exported})
    return out


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same names with floating-point tensors in float16, others as they are.

    Raises:
        InputError: If a value is too large for float16.
    """
    half = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in half.items():
        if not torch.isfinite(value).all():
            most = f"{tensors[key].abs().max():.3g}"
            remedy = "Train with more train.weight_decay or a smaller train.learning_rate."
            raise InputError(f"weight {key}", f"values up to {most}", "what float16 holds (65,504)", remedy)
    return half


def without_places(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as JSON without the files that it names, which stand in a manifest's inputs by their hash.

    Names of shipped checkpoints stay; they mean the same on every machine.
    """
    cleaned = dict(profile)
    for section, keys in PLACES.items():
        values = cleaned[section]
        emptied = {key: None for key in keys if key in values and values[key] not in shipped_checkpoints()}
        cleaned[section] = values | emptied
    return cleaned


def portable_manifest(step: Path) -> dict[str, Any]:
    """The manifest of a finished step without a path of this machine."""
    manifest = read_manifest(step)
    return manifest | {"profile": without_places(manifest["profile"])}


def _check_out(out: Path, *, ships: bool, synthetic: bool) -> None:
    """Refuses to ship real patients, and to replace anything but an earlier export."""
    if ships and not synthetic:
        remedy = "Give --out a folder outside the package."
        raise InputError(f"checkpoint {out.name}", "trained on real patients", "phantoms, to ship with hgisam", remedy)
    if ships:
        check_name(out.name)
    if ships and out.resolve().parent != SHIPPED.resolve():
        raise InputError("folder to make", str(out), f"one in {SHIPPED.name}/, or outside the package", "Name another.")
    if not is_free(out, listed(out / "manifest.json", "exported")):
        raise InputError(str(out), "something else", "a new folder, or an earlier export", "Name another folder.")


def check_name(name: str) -> str:
    """The name of a checkpoint, once it is known to be no path.

    Raises:
        InputError: If it has other characters than letters, digits, - and _.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError("name of a checkpoint", repr(name), "letters, digits, - and _", "Name it phantom-binary.")
    return name

"""Checkpoints: safetensors for tensors, JSON for the rest; a file pair rebuilds its own model. No pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError
from hgisam.models.networks import build_network
from hgisam.models.tasks import TASKS, Task
from hgisam.runs.files import read_json, write_json

SHIPPED = Path(str(resources.files("hgisam") / "checkpoints"))


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with all that it needs to read HU.

    Attributes:
        model: In evaluation mode.
        profile: That it was trained with.
        preprocess: From HU and brain mask [B, H, W] to what the model sees [B, C, H, W].
        detection_threshold: Probability of bleeding at and above which a slice is predicted to bleed.
    """

    model: nn.Module
    profile: Profile
    preprocess: Preprocessor
    detection_threshold: float

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return TASKS[self.profile.task]

    def probability(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → probability of bleeding [B]."""
        return self.task.score(self.model(images))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, extra: Mapping[str, Any]) -> None:
    """Writes `model.safetensors` and `model.json`; `extra` is kept beside what is needed to rebuild the model."""
    save_tensors(folder / "model.safetensors", checkpoint.model.state_dict())
    about = {
        "profile": checkpoint.profile.model_dump(mode="json"),
        "mean": checkpoint.preprocess.mean.tolist(),
        "std": checkpoint.preprocess.std.tolist(),
        "detection_threshold": checkpoint.detection_threshold,
    }
    write_json(folder / "model.json", {**extra, **about})


def load_checkpoint(folder: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Rebuilds a trained network, in evaluation mode, float32 whatever precision the file has.

    Raises:
        InputError: If a file is missing, broken or does not fit the other.
    """
    about = read_json(folder / "model.json")
    remedy = "Train again, or give the folder of a finished training."
    try:
        profile = Profile.model_validate(about["profile"])
        preprocess = replace(Preprocessor.of(profile), mean=torch.tensor(about["mean"]), std=torch.tensor(about["std"]))
        threshold = float(about["detection_threshold"])
        model = build_network(profile)
        model.load_state_dict(load_tensors(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"checkpoint {folder}", f"files that do not fit ({first})", "a whole checkpoint", remedy
        ) from None
    return Checkpoint(model.to(device).eval(), profile, preprocess, threshold)


def shipped_checkpoints() -> dict[str, Path]:
    """Name → folder of every checkpoint that ships with the package."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/model.json"))}


def checkpoint_folder(name: str) -> Path:
    """Folder of a shipped checkpoint by its name, or of any trained run by its path.

    Raises:
        InputError: If it is neither.
    """
    shipped = shipped_checkpoints()
    folder = shipped.get(name, Path(name))
    if not (folder / "model.json").is_file():
        expected = f"one of {', '.join(shipped)}, or a folder with model.json and model.safetensors"
        raise InputError("checkpoint", repr(name), expected, "Name one of them, e.g. runs/laptop/train.")
    return folder


def load_pretrained(name: str, device: str | torch.device = "cpu") -> Checkpoint:
    """A checkpoint that ships with the package: trained on phantoms, for teaching and tests, never for diagnosis.

    Args:
        name: "phantom-binary", "phantom-subtype", or the folder of a training.
        device: Where the network goes.

    Raises:
        InputError: If there is none of that name, or its files are broken.
    """
    return load_checkpoint(checkpoint_folder(name), device)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, with texts in its header, under a temporary name and renames it."""
    scratch = path.with_name(f".{path.name}.tmp")
    contiguous = {key: value.detach().contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(contiguous, scratch, metadata)
    scratch.replace(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a safetensors file", "Make the run again.") from None

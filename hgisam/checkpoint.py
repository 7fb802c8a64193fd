"""Checkpoints: safetensors for tensors, JSON for the rest; a file pair rebuilds its own model. No pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from hgisam.data import to_images
from hgisam.errors import InputError
from hgisam.models import bleeding_probability, build_classifier
from hgisam.profile import Profile
from hgisam.run import read_json, write_json


@dataclass(frozen=True)
class Checkpoint:
    """A trained classifier with all that it needs to read HU.

    `mean`, `std`: [C] of the windowed brain in training. `detection_threshold`: probability of bleeding at and above
    which a slice is said to bleed.
    """

    model: SwinTransformer
    profile: Profile
    mean: Tensor
    std: Tensor
    detection_threshold: float

    def images(self, hu: Tensor, brain: Tensor) -> Tensor:
        """HU and brain mask, both [B, H, W] → standardised channels [B, C, H, W], on the device of `hu`."""
        return to_images(hu, brain, self.profile, self.mean, self.std)

    def probability(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → probability of bleeding [B]."""
        return bleeding_probability(self.model(images))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, extra: Mapping[str, Any]) -> None:
    """Writes `model.safetensors` and `model.json`; `extra` is kept beside what is needed to rebuild the model."""
    save_tensors(folder / "model.safetensors", checkpoint.model.state_dict())
    about = {
        "profile": checkpoint.profile.model_dump(mode="json"),
        "mean": checkpoint.mean.tolist(),
        "std": checkpoint.std.tolist(),
        "detection_threshold": checkpoint.detection_threshold,
    }
    write_json(folder / "model.json", {**extra, **about})


def load_checkpoint(folder: Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Rebuilds a trained classifier, in evaluation mode.

    Raises:
        InputError: If a file is missing, broken or does not fit the other.
    """
    about = read_json(folder / "model.json")
    remedy = "Train again, or give the folder of a finished training."
    try:
        profile = Profile.model_validate(about["profile"])
        mean, std = torch.tensor(about["mean"]), torch.tensor(about["std"])
        threshold = float(about["detection_threshold"])
        model = build_classifier(profile, pretrained=False)
        model.load_state_dict(load_tensors(folder / "model.safetensors"))
    except (KeyError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"checkpoint {folder}", f"files that do not fit ({first})", "a whole checkpoint", remedy
        ) from None
    return Checkpoint(model.to(device).eval(), profile, mean, std, threshold)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file under a temporary name and renames it."""
    scratch = path.with_name(f".{path.name}.tmp")
    safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, scratch)
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


def save_training_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, about: Any) -> None:
    """Writes all that the next epoch needs into one file, so that a kill leaves either the old state or the new one."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    scratch = folder / ".state.tmp"
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    safetensors.torch.save_file(contiguous, scratch, metadata={"about": json.dumps(about)})
    scratch.replace(folder / "state.safetensors")


def load_training_state(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Restores what `save_training_state` wrote, in place; returns its `about`, or None where there is no state."""
    path = folder / "state.safetensors"
    if not path.is_file():
        return None
    with safetensors.safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    model.load_state_dict({key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return about

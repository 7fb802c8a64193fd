"""Small trained checkpoints that ship with the package, and trunks to start from."""

import logging
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from hgisam.config.profile import Profile
from hgisam.errors import InputError
from hgisam.models.checkpoint import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)

SHIPPED = Path(str(resources.files("hgisam") / "checkpoints"))


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


def start_from(network: nn.Module, profile: Profile) -> None:
    """Copies the weights of `train.start_from` in place; a head with other classes stays as it is.

    Raises:
        InputError: If there is no such checkpoint, or it is of another network or reads other channels.
    """
    source = load_pretrained(str(profile.train.start_from))
    if source.profile.windows != profile.windows:
        remedy = "Give the profile the same windows."
        raise InputError("train.start_from", "a network trained on other windows", "those of this profile", remedy)
    own, weights = network.state_dict(), source.model.state_dict()
    if source.profile.task != profile.task:
        weights = {key: value for key, value in weights.items() if not key.startswith("head.")}
        log.info("the head is new: it has other classes than that of %s", profile.train.start_from)
    unfit = [key for key, value in weights.items() if key not in own or own[key].shape != value.shape]
    unfit += [key for key in own if key not in weights and not key.startswith("head.")]
    if unfit:
        raise InputError(
            "train.start_from", f"another network: {len(unfit)} tensors differ, first {unfit[0]}",
            "the profile's own", "Start from a checkpoint with the same sections model and data.",
        )  # fmt: skip
    network.load_state_dict(weights, strict=False)

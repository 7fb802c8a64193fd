"""Checkpoints: weights as safetensors, all else as JSON; the two files rebuild the model. No pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError, system_error
from hgisam.models.networks import build_network
from hgisam.models.tasks import TASKS, Task
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import whole_file

SHIPPED = Path(__file__).parents[1] / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its preprocessing and its operating point.

    Attributes:
        model: The network, in evaluation mode.
        profile: Profile of its training.
        preprocess: From HU and brain mask [B, H, W] to images [B, C, H, W].
        detection_threshold: Probability of bleeding at and above which a slice is predicted to bleed.

    Example:
        >>> checkpoint = load_pretrained("phantom-binary")
        >>> images = checkpoint.preprocess(torch.full((2, 192, 192), 35), torch.ones(2, 192, 192))
        >>> checkpoint.probability(images).shape
        torch.Size([2])
    """

    model: nn.Module
    profile: Profile
    preprocess: Preprocessor
    detection_threshold: float

    @property
    def task(self) -> Task:
        """Task of the training."""
        return TASKS[self.profile.task]

    def probability(self, images: Tensor) -> Tensor:
        """Probability of bleeding [B] of images [B, C, H, W]."""
        return self.task.score(self.model(images))


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, extra: Mapping[str, Any]) -> None:
    """Write `model.safetensors` and `model.json`, the latter with the `extra` keys.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> save_checkpoint(folder, load_pretrained("phantom-subtype"), {"note": "a copy"})
        >>> load_checkpoint(folder).task.classes[:2]
        ('any', 'epidural')
    """
    folder = Path(folder)
    save_tensors(folder / "model.safetensors", checkpoint.model.state_dict())
    about = {
        "profile": checkpoint.profile.model_dump(mode="json"),
        "mean": checkpoint.preprocess.mean.tolist(),
        "std": checkpoint.preprocess.std.tolist(),
        "detection_threshold": checkpoint.detection_threshold,
    }
    write_json(folder / "model.json", {**extra, **about})


def load_checkpoint(folder: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a trained network in evaluation mode and float32, whatever the precision of the file.

    Raises:
        InputError: If a file is missing or broken, or the two do not fit together.

    Example:
        >>> load_checkpoint(shipped_checkpoints()["phantom-binary"]).profile.task
        'binary'
    """
    folder = Path(folder)
    about = read_json(folder / "model.json")
    try:
        profile = Profile.model_validate(about["profile"])
        preprocess = replace(Preprocessor.of(profile), mean=torch.tensor(about["mean"]), std=torch.tensor(about["std"]))
        threshold = float(about["detection_threshold"])
        model = build_network(profile)
        model.load_state_dict(load_tensors(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        got = f"files that do not fit ({str(error).strip().splitlines()[0]})"
        remedy = "Train again, or give the folder of a finished training."
        raise InputError(f"checkpoint {folder}", got, "a whole checkpoint", remedy) from None
    return Checkpoint(model.to(device).eval(), profile, preprocess, threshold)


def shipped_checkpoints() -> dict[str, Path]:
    """Name → folder of the checkpoints that ship with the package.

    Example:
        >>> list(shipped_checkpoints())
        ['phantom-binary', 'phantom-subtype']
    """
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob("*/model.json"))}


def checkpoint_folder(name: str | Path) -> Path:
    """Folder of a checkpoint, from the name of a shipped one, the folder of a training, or that of a run.

    Raises:
        InputError: If it is none of them, or a run that was recorded without its weights.
    """
    folder = shipped_checkpoints().get(str(name), Path(name))
    folder = folder / "train" if (folder / "train" / "manifest.json").is_file() else folder
    if not (folder / "model.json").is_file():
        recorded = (folder / "manifest.json").is_file()
        got = f"{str(name)!r}{', recorded without weights' if recorded else ''}"
        weights = folder.parent.rglob("model.safetensors") if recorded else ()
        expected = f"one of {', '.join(shipped_checkpoints())}, or a folder with model.json and model.safetensors"
        _, example = min(((len(path.parts), path.parent) for path in weights), default=(0, "runs/laptop/train"))
        raise InputError("checkpoint", got, expected, f"Name one of them, e.g. {example}.")
    return folder


def load_pretrained(name: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a checkpoint by its name, "phantom-binary" or "phantom-subtype", or from the folder of a training.

    The named ones ship with the package. They are trained on phantoms: for teaching and tests, never for diagnosis.

    Raises:
        InputError: If there is no such checkpoint, or its files are broken.

    Example:
        >>> load_pretrained("phantom-binary").task.classes
        ('no bleeding', 'bleeding')
    """
    return load_checkpoint(checkpoint_folder(name), device)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, with texts in its header, whole or not at all."""
    with whole_file(Path(path)) as scratch:
        contiguous = {key: value.detach().contiguous() for key, value in tensors.items()}
        try:
            safetensors.torch.save_file(contiguous, scratch, metadata)
        except safetensors.SafetensorError as error:
            raise system_error(error) from None


def load_tensors(path: str | Path, *, remedy: str = "Rerun the step.") -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a safetensors file", remedy) from None

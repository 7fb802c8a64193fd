"""State of an unfinished training: one file, so that a kill leaves either the old state or the new one."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from hgisam.errors import InputError
from hgisam.models.checkpoint import save_tensors

if TYPE_CHECKING:
    from hgisam.training.setup import TrainingSetup

FILE = "state.safetensors"


@dataclass
class Progress:
    """Progress of a training; with the weights and the optimizer's state it determines the rest.

    Attributes:
        history: One row per finished epoch.
        losses: Loss of each step of the current epoch.
        seconds: Time spent in the current epoch.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """Current epoch, counted from 0."""
        return len(self.history)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Add the row of the current epoch, and begin the next one."""
        self.history.append({"epoch": self.epoch + 1, **metrics, "seconds": self.seconds})
        self.losses, self.seconds = [], 0.0

    def epochs_since_best(self, metric: str) -> int:
        """Epochs since the best value of a metric, the first of equals; 0 before the first epoch."""
        values = [row[metric] for row in self.history] or [0.0]
        return len(values) - 1 - int(np.argmin(values) if metric == "val_loss" else np.argmax(values))


def save_state(setup: "TrainingSetup", progress: Progress) -> None:
    """Write weights, optimizer state, loss scale and progress; all randomness follows from seed, epoch and step."""
    if setup.is_main_process:
        tensors = {f"model.{key}": value for key, value in setup.network.state_dict().items()}
        for index, state in setup.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        about = {"of": _identity(setup), "scaler": setup.fabric.strategy.precision.state_dict()}
        save_tensors(setup.folder / FILE, tensors, {"about": json.dumps({**about, **asdict(progress)})})
    setup.fabric.barrier()


def load_state(setup: "TrainingSetup") -> Progress:
    """Restore network and optimizer in place, and return the progress; without a saved state, that of a new training.

    Raises:
        InputError: If the state is broken, or of a training with another profile or other data.
    """
    path = setup.folder / FILE
    if not path.is_file():
        return Progress()
    remedy = f"Remove {path} to start again."
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise InputError(str(path), f"unreadable ({error})", "the state of a training", remedy) from None
    if about.pop("of") != _identity(setup):
        raise InputError(str(path), "the state of another training", "one with this profile and these data", remedy)
    setup.network.load_state_dict({k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    setup.optimizer.load_state_dict({**setup.optimizer.state_dict(), "state": state})
    setup.fabric.strategy.precision.load_state_dict(about.pop("scaler"))
    return Progress(**about)


def remove_state(setup: "TrainingSetup") -> None:
    """Remove the state of a finished training."""
    setup.fabric.barrier()
    if setup.is_main_process:
        (setup.folder / FILE).unlink(missing_ok=True)


def _identity(setup: "TrainingSetup") -> str:
    """Hash of profile and data, which a resumed training must share with its state."""
    about: dict[str, Any] = {"profile": setup.profile.model_dump(mode="json"), "data": setup.prepared.fingerprint}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

"""The state of a training that is under way: one file, so that a kill leaves either the old state or the new one."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from hgisam.errors import InputError
from hgisam.models.checkpoint import save_tensors
from hgisam.training.setup import TrainingSetup

FILE = "state.safetensors"


@dataclass
class Progress:
    """Where a training stands: with weights and optimizer, all that its rest depends on.

    Attributes:
        history: One row an epoch that is over.
        losses: Of the steps of this epoch so far.
        seconds: Spent in this epoch so far.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def save_state(setup: TrainingSetup, progress: Progress) -> None:
    """Writes weights, optimizer, loss scale and progress; the first process does, for all hold the same.

    The schedule, the sampler and the generators need no place: they follow from the seed, the epoch and the step.
    """
    if setup.leads:
        tensors = {f"model.{key}": value for key, value in setup.network.state_dict().items()}
        for index, state in setup.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        about = {"of": _identity(setup), "scaler": setup.fabric.strategy.precision.state_dict()}
        save_tensors(setup.folder / FILE, tensors, {"about": json.dumps({**about, **asdict(progress)})})
    setup.fabric.barrier()


def load_state(setup: TrainingSetup) -> Progress:
    """Restores network and optimizer in place; where there is no state, a training that has not begun.

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
    weights = {key.removeprefix("model."): t for key, t in tensors.items() if key.startswith("model.")}
    setup.network.load_state_dict(weights)
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = tensor
    groups = setup.optimizer.state_dict()["param_groups"]
    setup.optimizer.load_state_dict({"state": state, "param_groups": groups})
    setup.fabric.strategy.precision.load_state_dict(about.pop("scaler"))
    return Progress(**about)


def remove_state(setup: TrainingSetup) -> None:
    """Once a training is over."""
    setup.fabric.barrier()
    if setup.leads:
        (setup.folder / FILE).unlink(missing_ok=True)


def _identity(setup: TrainingSetup) -> str:
    """What a state must have been saved for, to be gone on with."""
    about: dict[str, Any] = {"profile": setup.profile.model_dump(mode="json"), "data": setup.prepared.fingerprint}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

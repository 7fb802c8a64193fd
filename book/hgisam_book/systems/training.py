"""Training of the systems of the ladder: one loop for networks that see exams, sequences of slices, boxes or volumes.

The loop of `hgisam.training` is for networks that see slices, on many GPUs; these networks are small and trained in
minutes. Their settings are those of `study.trainings`, so that a profile describes them as it describes a U-Net.
"""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.augmentation import augment, sample_augmentation
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.data.windows import apply_windows
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_tensors, save_tensors
from hgisam.models.device import autocast, choose_device
from hgisam.models.tasks import TASKS
from hgisam.pipeline import open_step_data, training_set_of
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.steps import Run
from hgisam.training.optimizer import learning_rate, make_optimizer
from hgisam.training.setup import require_all_patients, training_facts
from hgisam_book.recorded.reuse import note_reuse, reaches, recorded_score, recorded_training
from hgisam_book.studies.coarse_labels import rows_by_study

SCORE = "val_score"  # of the validation patients, in `train.csv` and `model.json`
FILES = ("model.safetensors", "model.json", "train.csv")  # of a training
Rows = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float32]


class System(Protocol):
    """A system that learns from little."""

    @property
    def name(self) -> str:
        """Of its training in `study.trainings`, and of its maps."""

    def network(self, profile: Profile) -> nn.Module:
        """A network with random weights."""

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[Any]:
        """Which slices each optimizer step of an epoch sees, by their rows; seed and epoch determine them."""

    def read(self, example: Any, data: PreparedDataset, profile: Profile, epoch: int) -> Any:
        """The batch of an example, read and augmented when its step comes: an epoch may not fit into memory."""

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """Loss [] of a batch."""

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        """Score of the validation patients by the labels that the system learns from; larger is better."""

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        """Name → score maps [n, row, col] in 0 to 1 of all slices `rows` of one scan, which ascend."""


@dataclass(frozen=True)
class Slices:
    """Slices as a network sees them.

    Attributes:
        images: [n, windows, row, col] in 0 to 1, 0 outside the brain.
        hu, brain: [n, row, col].
        labels: 0 or 1, [n, 6], in the order of `LABELS`.
        mask: [n, row, col], 0 or 1; None in a set without masks.
    """

    images: Tensor
    hu: Tensor
    brain: Tensor
    labels: Tensor
    mask: Tensor | None


def read_slices(
    data: PreparedDataset, rows: Rows, profile: Profile, epoch: int | None = None, *, alike: bool = True
) -> Slices:
    """Slices in the windows of a profile, on its device.

    Args:
        data: With or without masks.
        rows: [n], ascending.
        profile: Gives windows, augmentation, seed and device.
        epoch: Augments for this epoch; None: as they are.
        alike: Augments all slices as one scan, but for their noise; False: each on its own, as those of several scans.
    """
    device, settings = choose_device(profile.compute.accelerator), profile.train.augment
    hu, brain = (torch.as_tensor(array[rows]).to(device) for array in (data.hu, data.brain))
    mask = None if data.mask is None else torch.as_tensor((require_masks(data)[rows] > 0).astype(np.float32)).to(device)
    if epoch is not None:
        changes = sample_augmentation(rows, settings, profile.seed, epoch)
        if alike:
            first = sample_augmentation(np.repeat(rows[:1], len(rows)), settings, profile.seed, epoch)
            changes = replace(first, noise_seed=changes.noise_seed)
        hu, brain, *moved = augment(hu, brain, changes, mask)
        mask = moved[0] if moved else None
    inside = (brain > 0).float()
    labels = torch.as_tensor(data.slices[list(LABELS)].iloc[rows].to_numpy(copy=True)).to(device)
    return Slices(apply_windows(hu.float(), profile.windows) * inside[:, None], hu.float(), inside, labels, mask)


def scans(data: PreparedDataset, split: str | None = None) -> list[Rows]:
    """Rows of each scan of a split, or of all, in the order of the table; ascending from the neck to the vertex."""
    of_slices = data.slices["split"].to_numpy()  # the same for all slices of a scan
    return [rows for rows in rows_by_study(data) if split in (None, of_slices[rows[0]])]


def train_system(
    system: System,
    profile: Profile,
    runs_dir: str | Path,
    step: str,
    take_from: str | Path | None = None,
    data: PreparedDataset | None = None,
) -> Path:
    """Train a system, reuse its recorded network, or find it done.

    Args:
        system: To train.
        profile: Of the training, from `Profile.variant`.
        runs_dir: Folder of all runs.
        step: Name of the step, e.g. "price/exam_mil/network".
        take_from: Folder of recorded runs, to reuse a network with the same settings and slices; None to train.
        data: Another prepared set than the one for the profile's task. One with masks is split by `train.fold`.

    Returns:
        `runs/<profile>/<step>`: `model.safetensors`, `train.csv` with a row per epoch, and `model.json` with the name
        of the system, the profile, facts of the training data and the best score.
    """
    run = Run(profile, runs_dir)
    data = data or open_step_data(run, training_set_of(profile.task))
    split = by_fold(data, profile.train.fold) if profile.task == "segmentation" else data
    source = recorded_training(profile, take_from, step) if take_from else None

    def work(folder: Path) -> None:
        if source is None or not _reuse(system, profile, split, source, folder):
            fit_system(system, profile, split, folder)

    return run.make(
        step,
        work,
        code=[type(system).__module__],
        sections=("task", "data", "windows", "train", "compute"),
        inputs={
            f"prepared/{data.path.name}": data.fingerprint,
            **({} if source is None else {"recorded": sha256_of(source / "model.safetensors")}),
        },
    )


def fit_system(system: System, profile: Profile, data: PreparedDataset, folder: str | Path) -> None:
    """Train for `train.epochs` with AdamW, and keep the epoch with the best score, the last of equal ones.

    Args:
        system, profile: As in `train_system`.
        data: With its split.
        folder: Gets the files.

    Raises:
        InputError: If a split has no bleeding or no other slice, or a loss is not finite.
    """
    folder, settings = Path(folder), profile.train
    require_all_patients(profile, data)
    for role in ("train", "val"):
        if data.slices["any"].iloc[data.rows(role)].nunique() < 2:
            remedy = "Prepare more patients, or another data.validation_fraction."
            raise InputError(f"split {role} of {data.path.name}", "one class", "bleeding and other slices", remedy)
    torch.manual_seed(profile.seed)
    device = choose_device(profile.compute.accelerator)
    network = system.network(profile).to(device)
    optimizer = make_optimizer(network, settings)
    history: list[dict[str, float]] = []
    for epoch in range(settings.epochs):
        started = time.perf_counter()
        network.train()
        examples = list(system.examples(data, profile, epoch))
        losses = []
        for number, example in enumerate(tqdm(examples, desc=f"{system.name}, epoch {epoch + 1}", leave=False)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch + number / len(examples))
            batch = system.read(example, data, profile, epoch)  # in float32: HU need more digits than bfloat16 has
            with autocast(profile.compute.precision, device):
                loss = system.loss(network, batch)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                what = f"loss of {system.name}, epoch {epoch + 1}, step {number + 1}"
                raise InputError(what, losses[-1], "a finite number", "Lower its train.learning_rate.")
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm > 0:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        score = validation_score(system, network.eval(), data, profile)
        best = max((row[SCORE] for row in history), default=-math.inf)
        seconds = round(time.perf_counter() - started, 1)
        row = {"epoch": epoch + 1, "train_loss": float(np.mean(losses)), SCORE: score, "seconds": seconds}
        history.append(row)
        if score >= best:
            save_tensors(folder / "model.safetensors", network.state_dict())
            about = {
                "system": system.name,
                "profile": profile.model_dump(mode="json"),
                "validation": {SCORE: score},
            }
            write_json(folder / "model.json", {**training_facts(data, TASKS[profile.task]), **about})
    pd.DataFrame(history).to_csv(folder / "train.csv", index=False)


def load_system(system: System, folder: str | Path) -> tuple[nn.Module, Profile]:
    """The trained network of a system, in evaluation mode and float32, and the profile of its training.

    Raises:
        InputError: If a file is missing or broken, or the network is that of another system.
    """
    folder = Path(folder)
    about, remedy = read_json(folder / "model.json"), "Train again, or give the folder of a finished training."
    try:
        if about["system"] != system.name:
            raise InputError(f"network {folder}", f"one of {about['system']}", f"one of {system.name}", remedy)
        profile = Profile.model_validate(about["profile"])
        network = system.network(profile)
        network.load_state_dict(load_tensors(folder / "model.safetensors"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        got = f"files that do not fit ({str(error).strip().splitlines()[0]})"
        raise InputError(f"network {folder}", got, f"a trained {system.name}", remedy) from None
    return network.to(choose_device(profile.compute.accelerator)).eval(), profile


def validation_score(system: System, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
    """Score of the validation patients, in float32: in bfloat16 the ranks of a network near chance are noise."""
    with torch.no_grad():
        return system.validate(network, data, profile)


def _reuse(system: System, profile: Profile, data: PreparedDataset, source: Path, folder: Path) -> bool:
    """Fill a folder with a recorded network, if it saw the same slices and reaches its recorded score on them."""
    then = recorded_score(source, data, TASKS[profile.task], SCORE)
    if then is None:
        return False
    network, _ = load_system(system, source)
    now = validation_score(system, network, data, profile)
    if not reaches(source, data, then, now):
        return False
    for name in FILES:
        shutil.copyfile(source / name, folder / name)
    note_reuse(source, folder, SCORE, then, now)
    return True

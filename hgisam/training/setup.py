"""Training setup: data, network, optimizer, device, and the share of the slices that each process gets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from hgisam.config.profile import Profile
from hgisam.data.batches import Batches, SliceDataset, balanced_sample, batch_loader, evenly_spaced
from hgisam.data.prepared import LABELS, PreparedDataset, by_fold, require_masks
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError
from hgisam.models.networks import build_network
from hgisam.models.tasks import TASKS, Task
from hgisam.models.weights import load_initial_weights
from hgisam.training.fabric import make_fabric
from hgisam.training.optimizer import make_optimizer
from hgisam.training.validation import validate, validation_table

STATISTICS_SLICES = 1024  # training slices that the channels' mean and standard deviation are measured on


@dataclass(frozen=True)
class TrainingSetup:
    """A training in one of its processes.

    Attributes:
        profile, prepared, folder: As given to `fit`.
        task: What the network is trained for.
        slices: The prepared slices, in batches.
        train_rows, val_rows: Row numbers of the two splits [n].
        preprocess: Fitted to the training slices.
        fabric: Device, precision and the other processes.
        network: The network itself.
        model: The network as it trains: compiled, distributed, in the precision of the profile.
        optimizer: Of its weights.
    """

    profile: Profile
    prepared: PreparedDataset
    folder: Path
    task: Task
    slices: SliceDataset
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]
    preprocess: Preprocessor
    fabric: lightning.Fabric
    network: Any
    model: Any
    optimizer: Any

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.fabric.global_rank == 0

    def epoch_batches(self, epoch: int, *, first: int = 0) -> Batches:
        """The balanced samples of an epoch, `train.passes` of them, in batches; this process's share of each."""
        bleeds = self.slices.labels[self.train_rows, LABELS.index("any")].numpy() == 1
        passes = self.profile.train.passes
        samples = [
            balanced_sample(self.train_rows, bleeds, np.random.default_rng((self.profile.seed, number)))
            for number in range(epoch * passes, (epoch + 1) * passes)
        ]
        return self._shared(np.concatenate(samples), self.profile.train.batch_size, first)

    def loader(self, batches: Batches) -> Any:
        """Reads these batches, ahead of their use where the set doesn't fit into memory."""
        on_gpu = self.fabric.device.type == "cuda"
        return batch_loader(self.slices, batches, workers=self.profile.compute.jobs, pin=on_gpu)

    def validate(self) -> tuple[pd.DataFrame, dict[str, float]]:
        """Table and metrics of the validation slices, each of which one of the processes measures."""
        batches = self._shared(self.val_rows, 2 * self.profile.train.batch_size)
        rows, outputs = validate(
            self.network, self.loader(batches), self.task, self.preprocess, self.profile.train,
            autocast=self.fabric.autocast,
        )  # fmt: skip
        return validation_table(self.prepared, self.val_rows, self._gathered(batches, rows, outputs), self.task)

    def _shared(self, rows: npt.NDArray[np.int64], size: int, first: int = 0) -> Batches:
        return Batches(rows, size, first=first, rank=self.fabric.global_rank, world=self.fabric.world_size)

    def _gathered(self, batches: Batches, rows: Tensor, values: Tensor) -> Tensor:
        """Values of all rows [n, M] in their order, from all processes."""
        shares = [-(-len(batch) // self.fabric.world_size) for batch in batches.batches]
        padded = torch.full((sum(shares), 1 + values.shape[1]), -1.0, dtype=torch.float64)  # the first process has most
        padded[: len(rows)] = torch.cat([rows[:, None].double(), values.double()], dim=1)
        gathered: Any = self.fabric.all_gather(padded.to(self.fabric.device))
        joined = gathered.reshape(-1, padded.shape[1]).cpu()
        joined = joined[joined[:, 0] >= 0]
        ordered: Tensor = joined[joined[:, 0].argsort()][:, 1:].float()
        return ordered


def set_up_training(profile: Profile, prepared: PreparedDataset, folder: Path) -> TrainingSetup:
    """Builds everything up to the first step.

    Raises:
        InputError: If the set has another grid than the profile, a split lacks a class, or the machine is not what the
            profile demands.
    """
    compute, settings = profile.compute, profile.train
    prepared, train_rows, val_rows = training_split(profile, prepared)
    fabric = make_fabric(compute, some_unused=settings.head_epochs > 0)
    fabric.launch()
    slices = SliceDataset(prepared, with_mask=profile.task == "segmentation")
    if settings.shuffle_labels:
        shuffled = np.random.default_rng(profile.seed).permutation(train_rows)
        slices.labels[train_rows] = slices.labels[shuffled]
    torch.manual_seed(profile.seed)
    network: Any = build_network(profile)
    load_initial_weights(network, profile)
    if compute.checkpointing:
        _checkpoint_activations(network)
    learner: Any = torch.compile(network) if compute.compile else network
    model, optimizer = fabric.setup(learner, make_optimizer(network, settings))
    preprocess = fit_preprocessor(profile, slices, train_rows)
    return TrainingSetup(
        profile, prepared, folder, TASKS[profile.task], slices, train_rows, val_rows, preprocess, fabric, network,
        model, optimizer,
    )  # fmt: skip


def training_split(
    profile: Profile, prepared: PreparedDataset
) -> tuple[PreparedDataset, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The set as a training splits it, and the rows of training and validation.

    Raises:
        InputError: If the set does not fit the profile.
    """
    if profile.task == "segmentation":
        require_masks(prepared)
        prepared = by_fold(prepared, profile.train.fold)
    _check_grid(profile, prepared)
    prepared = subset_patients(prepared, profile.train.patients, profile.seed)
    train_rows, val_rows = (_rows_of_both_classes(prepared, split) for split in ("train", "val"))
    if profile.task == "subtype" and (prepared.slices[list(LABELS)] < 0).to_numpy().any():
        remedy = "Use task=binary, or slices whose subtypes are annotated."
        got = "bleeds whose subtype is not annotated"
        raise InputError(f"labels of {prepared.path.name}", got, "the subtype of each", remedy)
    return prepared, train_rows, val_rows


def fit_preprocessor(profile: Profile, slices: SliceDataset, train_rows: npt.NDArray[np.int64]) -> Preprocessor:
    """The preprocessing of a profile, its statistics those of at most `STATISTICS_SLICES` training slices."""
    sample = batch_loader(slices, Batches(evenly_spaced(train_rows, STATISTICS_SLICES), 64))
    return Preprocessor.of(profile).fit(sample)


def training_facts(prepared: PreparedDataset, task: Task) -> dict[str, Any]:
    """What a checkpoint says of its training: the classes, and the data without a name of a patient."""
    slices = prepared.slices.groupby("split")
    data = {
        **{key: prepared.meta.get(key, "unknown") for key in ("name", "source", "licence")},
        "patients": {str(split): int(count) for split, count in slices["patient"].nunique().items()},
        "slices": {str(split): int(count) for split, count in slices.size().items()},
        "bleeding": {str(split): int(count) for split, count in slices["any"].sum().items()},
    }
    return {"classes": task.classes, "data": data}


def training_patients(prepared: PreparedDataset) -> "pd.Series[int]":
    """Whether each patient of the training split bleeds, 1 or 0, by patient."""
    return prepared.slices[prepared.slices["split"] == "train"].groupby("patient")["any"].max()


def subset_patients(prepared: PreparedDataset, count: int | None, seed: int) -> PreparedDataset:
    """The set with no more than `count` bleeding training patients, and as many others, sampled at random.

    A smaller sample is part of every larger one with the same seed.
    """
    if count is None:
        return prepared
    bleeds = training_patients(prepared).sample(frac=1, random_state=seed)
    if (found := int(bleeds.sum())) < count:
        remedy = "Lower it, or use null for all."
        raise InputError("train.patients", count, f"at most {found}, the bleeding training patients", remedy)
    kept = {patient for value in (0, 1) for patient in bleeds.index[bleeds == value][:count]}
    left_out = (prepared.slices["split"] == "train") & ~prepared.slices["patient"].isin(kept)
    return replace(prepared, slices=prepared.slices.assign(split=prepared.slices["split"].mask(left_out, "left out")))


def _checkpoint_activations(network: Any) -> None:
    if not hasattr(network, "set_grad_checkpointing"):
        remedy = "Use compute.checkpointing=false, or train.accumulate to save memory."
        raise InputError("compute.checkpointing", "true", "false for a segmenter", remedy)
    network.set_grad_checkpointing()


def _check_grid(profile: Profile, prepared: PreparedDataset) -> None:
    size_px, pixel_mm = prepared.meta["size_px"], prepared.slices["pixel_mm"].iloc[0]
    if size_px != profile.data.image_px or abs(pixel_mm / profile.pixel_mm - 1) > 0.01:
        wanted = profile.data
        raise InputError(
            f"slices of {prepared.path}",
            f"{size_px} px of {pixel_mm:.3g} mm",
            f"{wanted.image_px} px of {profile.pixel_mm:.3g} mm, as the profile says",
            f"Prepare them with --image-px {wanted.image_px} --field-of-view-mm {wanted.field_of_view_mm:g}.",
        )


def _rows_of_both_classes(prepared: PreparedDataset, split: str) -> npt.NDArray[np.int64]:
    rows = prepared.rows(split)
    if set(prepared.slices["any"].iloc[rows]) != {0, 1}:
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(
            f"split {split} of {prepared.path.name}", "one class at most", "slices of both classes", remedy
        )
    return rows

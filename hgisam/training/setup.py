"""What every epoch of a training uses: data, network, optimizer, device, and which slices this process gets."""

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
from hgisam.data.batches import Batches, SliceDataset, balanced_sample, batch_loader
from hgisam.data.prepared import LABELS, PreparedDataset, by_fold, require_masks
from hgisam.data.preprocess import channel_statistics, to_images
from hgisam.errors import InputError
from hgisam.models.networks import build_network
from hgisam.models.shipped import start_from
from hgisam.models.tasks import TASKS, Task
from hgisam.training.fabric import make_fabric
from hgisam.training.optimizer import make_optimizer


@dataclass(frozen=True)
class TrainingSetup:
    """A training in one of its processes.

    Attributes:
        profile, prepared, folder: As given to `hgisam.training.loop.fit`.
        task: What is asked.
        slices: The prepared slices, in batches.
        train_rows, val_rows: Row numbers of the two splits [n].
        mean, std: Of each channel over soft tissue [C].
        fabric: Device, precision and the other processes.
        network: The network itself.
        model: The network as it learns: compiled, distributed, in the precision asked for.
        optimizer: Of its weights.
    """

    profile: Profile
    prepared: PreparedDataset
    folder: Path
    task: Task
    slices: SliceDataset
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]
    mean: Tensor
    std: Tensor
    fabric: lightning.Fabric
    network: Any
    model: Any
    optimizer: Any

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of its training: the classes, and the data without a name of a patient."""
        slices = self.prepared.slices.groupby("split")
        data = {
            **{key: self.prepared.meta.get(key, "unknown") for key in ("name", "source", "licence")},
            "patients": {str(split): int(count) for split, count in slices["patient"].nunique().items()},
            "slices": {str(split): int(count) for split, count in slices.size().items()},
            "bleeding": {str(split): int(count) for split, count in slices["any"].sum().items()},
        }
        return {"classes": self.task.classes, "data": data}

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.fabric.global_rank == 0

    def images(self, hu: Tensor, brain: Tensor) -> Tensor:
        """What the network sees; see `hgisam.data.batches.to_images`."""
        return to_images(hu, brain, self.profile, self.mean, self.std)

    def epoch_batches(self, epoch: int, *, first: int = 0) -> Batches:
        """The balanced draws of an epoch, `train.passes` of them, in batches of which this process gets its share."""
        bleeds = self.slices.labels[self.train_rows, LABELS.index("any")].numpy() == 1
        passes = self.profile.train.passes
        draws = [
            balanced_sample(self.train_rows, bleeds, np.random.default_rng((self.profile.seed, number)))
            for number in range(epoch * passes, (epoch + 1) * passes)
        ]
        return self._shared(np.concatenate(draws), self.profile.train.batch_size, first)

    def validation_batches(self) -> Batches:
        """The validation slices in their order, of which this process gets its share."""
        return self._shared(self.val_rows, 2 * self.profile.train.batch_size)

    def loader(self, batches: Batches) -> Any:
        """Reads these batches, ahead of their use where the set doesn't fit into memory."""
        on_gpu = self.fabric.device.type == "cuda"
        return batch_loader(self.slices, batches, workers=self.profile.compute.jobs, pin=on_gpu)

    def _shared(self, rows: npt.NDArray[np.int64], size: int, first: int = 0) -> Batches:
        return Batches(rows, size, first=first, rank=self.fabric.global_rank, world=self.fabric.world_size)


def set_up_training(profile: Profile, prepared: PreparedDataset, folder: Path) -> TrainingSetup:
    """Builds everything up to the first step.

    Raises:
        InputError: If the set has another grid than the profile, a split lacks a class, or the machine is not what the
            profile asks for.
    """
    if profile.task == "segmentation":
        require_masks(prepared)
        prepared = by_fold(prepared, profile.train.fold)
    _check_grid(profile, prepared)
    compute, settings = profile.compute, profile.train
    prepared = subset_patients(prepared, settings.patients, profile.seed)
    train_rows, val_rows = (_rows_of_both_classes(prepared, split) for split in ("train", "val"))
    if profile.task == "subtype" and (prepared.slices[list(LABELS)] < 0).to_numpy().any():
        remedy = "Use task=binary, or slices whose types are known."
        raise InputError(f"labels of {prepared.path.name}", "bleeds of no said type", "the type of each", remedy)
    fabric = make_fabric(compute, processes=True, some_unused=settings.head_epochs > 0)
    fabric.launch()
    slices = SliceDataset(prepared, with_mask=profile.task == "segmentation")
    if settings.shuffle_labels:
        shuffled = np.random.default_rng(profile.seed).permutation(train_rows)
        slices.labels[train_rows] = slices.labels[shuffled]
    torch.manual_seed(profile.seed)
    network: Any = build_network(profile)
    if settings.start_from is not None:
        start_from(network, profile)
    if compute.checkpointing:
        _checkpoint_activations(network)
    learner: Any = torch.compile(network) if compute.compile else network
    model, optimizer = fabric.setup(learner, make_optimizer(network, settings))
    mean, std = channel_statistics(slices, train_rows, profile)
    return TrainingSetup(
        profile, prepared, folder, TASKS[profile.task], slices, train_rows, val_rows, mean, std, fabric, network, model,
        optimizer,
    )  # fmt: skip


def training_patients(prepared: PreparedDataset) -> "pd.Series[int]":
    """Whether each patient of the training split bleeds, 1 or 0, by patient."""
    return prepared.slices[prepared.slices["split"] == "train"].groupby("patient")["any"].max()


def subset_patients(prepared: PreparedDataset, count: int | None, seed: int) -> PreparedDataset:
    """The set with no more than `count` bleeding training patients, and as many others, drawn at random.

    A smaller draw is part of every larger one with the same seed.
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

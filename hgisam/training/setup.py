"""Training setup: data, network, optimizer and device of a training, and the share of the slices of each process."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hgisam.config.profile import Data, Profile
from hgisam.data.batches import Batches, SliceDataset, balanced_sample, batch_loader, evenly_spaced
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError
from hgisam.models.networks import build_network
from hgisam.models.tasks import TASKS, Task
from hgisam.models.weights import load_initial_weights
from hgisam.training.fabric import make_fabric
from hgisam.training.optimizer import make_optimizer
from hgisam.training.validation import Rows, TableAndMetrics, validate, validation_table

STATISTICS_SLICES = 1024  # training slices for the mean and standard deviation of the channels


@dataclass(frozen=True)
class TrainingSetup:
    """A training, in one of its data-parallel processes; `profile`, `prepared` and `folder` are as in `fit`.

    Attributes:
        prepared: With the training's own split.
        train_rows: Row numbers [n] of the training split.
        val_rows: Row numbers [n] of the validation split.
        preprocess: Fitted to the training slices.
        network: The plain network.
        model: The same, compiled, distributed and in mixed precision.
    """

    profile: Profile
    prepared: PreparedDataset
    folder: Path
    task: Task
    slices: SliceDataset
    train_rows: Rows
    val_rows: Rows
    preprocess: Preprocessor
    fabric: Any  # lightning.Fabric
    network: Any
    model: Any
    optimizer: Any

    @property
    def is_main_process(self) -> bool:
        """True in the process that writes."""
        return bool(self.fabric.global_rank == 0)

    def epoch_batches(self, epoch: int, *, first: int = 0) -> Batches:
        """This process's share of the mini-batches of an epoch, which is `train.passes` balanced samples."""
        bleeds = self.slices.labels[self.train_rows, LABELS.index("any")].numpy() == 1
        passes = self.profile.train.passes
        samples = [
            balanced_sample(self.train_rows, bleeds, np.random.default_rng((self.profile.seed, number)))
            for number in range(epoch * passes, (epoch + 1) * passes)
        ]
        return self._shared(np.concatenate(samples), self.profile.train.batch_size, first)

    def loader(self, batches: Batches) -> Any:
        """Loader of batches, which reads ahead if the set does not fit into memory."""
        jobs, on_gpu = self.profile.compute.jobs, self.fabric.device.type == "cuda"
        return batch_loader(self.slices, batches, workers=jobs, pin=on_gpu)

    def validate(self) -> TableAndMetrics:
        """Table and metrics of the validation slices, which the processes share."""
        batches = self._shared(self.val_rows, 2 * self.profile.train.batch_size)
        rows, outputs = validate(
            self.network, self.loader(batches), self.task, self.preprocess, self.profile.train,
            autocast=self.fabric.autocast,
        )  # fmt: skip
        return validation_table(self.prepared, self.val_rows, self._gathered(batches, rows, outputs), self.task)

    def _shared(self, rows: Rows, size: int, first: int = 0) -> Batches:
        return Batches(rows, size, first=first, rank=self.fabric.global_rank, world=self.fabric.world_size)

    def _gathered(self, batches: Batches, rows: Tensor, values: Tensor) -> Tensor:
        """Values [n, M] of all rows in their order, from all processes."""
        shares = [-(-len(batch) // self.fabric.world_size) for batch in batches.batches]
        padded = torch.full((sum(shares), 1 + values.shape[1]), -1.0, dtype=torch.float64)  # the first process has most
        padded[: len(rows)] = torch.cat([rows[:, None].double(), values.double()], dim=1)
        gathered: Any = self.fabric.all_gather(padded.to(self.fabric.device))
        joined: Tensor = gathered.reshape(-1, padded.shape[1]).cpu()
        joined = joined[joined[:, 0] >= 0]
        return joined[joined[:, 0].argsort()][:, 1:].float()


def set_up_training(profile: Profile, prepared: PreparedDataset, folder: str | Path) -> TrainingSetup:
    """Build all that a training needs before its first step.

    Raises:
        InputError: If the set does not fit the profile, a split lacks a class, or the machine lacks a GPU or compiler.
    """
    compute, settings = profile.compute, profile.train
    require_all_patients(profile, prepared)
    prepared, train_rows, val_rows = training_split(profile, prepared)
    fabric = make_fabric(compute, find_unused_parameters=settings.head_epochs > 0)
    fabric.launch()
    slices = SliceDataset(prepared, with_mask=profile.task == "segmentation")
    if settings.shuffle_labels:
        shuffled = np.random.default_rng(profile.seed).permutation(train_rows)
        slices.labels[train_rows] = slices.labels[shuffled]
    torch.manual_seed(profile.seed)
    network: Any = build_network(profile)
    load_initial_weights(network, profile)
    if compute.checkpointing and not hasattr(network, "set_grad_checkpointing"):
        remedy = "Use compute.checkpointing=false, or train.accumulate to save memory."
        raise InputError("compute.checkpointing", "true", "false for a segmenter", remedy)
    if compute.checkpointing:
        network.set_grad_checkpointing()
    learner: Any = torch.compile(network) if compute.compile else network
    model, optimizer = fabric.setup(learner, make_optimizer(network, settings))
    preprocess = Preprocessor.of(profile).fit(statistics_sample(slices, train_rows))
    return TrainingSetup(
        profile, prepared, Path(folder), TASKS[profile.task], slices, train_rows, val_rows, preprocess, fabric, network,
        model, optimizer,
    )  # fmt: skip


def training_split(profile: Profile, prepared: PreparedDataset) -> tuple[PreparedDataset, Rows, Rows]:
    """The set with the split of a training, and the row numbers of its training and validation slices.

    Raises:
        InputError: If the set does not fit the profile.
    """
    if profile.task == "segmentation":
        require_masks(prepared)
        prepared = by_fold(prepared, profile.train.fold)
    _check_grid(profile.data, prepared)
    prepared = subset_patients(prepared, profile.train.patients, profile.seed)
    train_rows, val_rows = (_rows_of_both_classes(prepared, split) for split in ("train", "val"))
    if profile.task == "subtype" and (prepared.slices[list(LABELS)] < 0).to_numpy().any():
        got, remedy = "bleeds without an annotated subtype", "Use task=binary, or slices whose subtypes are annotated."
        raise InputError(f"labels of {prepared.path.name}", got, "the subtype of each", remedy)
    return prepared, train_rows, val_rows


def statistics_sample(slices: SliceDataset, train_rows: Rows) -> Any:
    """At most `STATISTICS_SLICES` training slices, in batches, to fit the preprocessing to."""
    return batch_loader(slices, Batches(evenly_spaced(train_rows, STATISTICS_SLICES), 64))


def training_facts(prepared: PreparedDataset, task: Task) -> dict[str, Any]:
    """Classes and training data for the description of a checkpoint, without names of patients."""
    slices = prepared.slices.groupby("split")
    counts = {"patients": slices["patient"].nunique(), "slices": slices.size(), "bleeding": slices["any"].sum()}
    about = {key: prepared.meta.get(key, "unknown") for key in ("name", "source", "licence")}
    by_split = {key: {str(split): int(n) for split, n in count.items()} for key, count in counts.items()}
    return {"classes": task.classes, "data": about | by_split}


def training_patients(prepared: PreparedDataset) -> "pd.Series[int]":
    """Training patients → 1 if they bleed, else 0."""
    return prepared.slices[prepared.slices["split"] == "train"].groupby("patient")["any"].max()


def subset_patients(prepared: PreparedDataset, count: int | None, seed: int) -> PreparedDataset:
    """The set with a random subset of training patients: `count` that bleed, and at most as many others.

    With the same seed, a smaller subset is part of every larger one.
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


def require_all_patients(profile: Profile, prepared: PreparedDataset) -> None:
    """An InputError for a training on an excerpt of a phantom cohort, unless it asks for few patients."""
    if (absent := prepared.is_phantom and prepared.meta.get("absent_patients", 0)) and profile.train.patients is None:
        got, remedy = f"without {absent} patients of its split", "`make book TRAIN=all` makes all of them."
        raise InputError(f"set {prepared.path.name}", got, "all patients", remedy)


def _check_grid(expected: Data, prepared: PreparedDataset) -> None:
    size_px, pixel_mm = prepared.meta["size_px"], prepared.slices["pixel_mm"].iloc[0]
    expected_mm = expected.field_of_view_mm / expected.image_px
    if size_px != expected.image_px or abs(pixel_mm / expected_mm - 1) > 0.01:
        raise InputError(
            f"slices of {prepared.path}", f"{size_px} px of {pixel_mm:.3g} mm",
            f"{expected.image_px} px of {expected_mm:.3g} mm, as the profile says",
            f"Prepare them with --image-px {expected.image_px} --field-of-view-mm {expected.field_of_view_mm:g}.",
        )  # fmt: skip


def _rows_of_both_classes(prepared: PreparedDataset, split: str) -> Rows:
    rows, name = prepared.rows(split), f"split {split} of {prepared.path.name}"
    if set(prepared.slices["any"].iloc[rows]) != {0, 1}:
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(name, "one class at most", "slices of both classes", remedy)
    return rows

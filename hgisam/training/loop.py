"""The training loop: one for every task, on two cores or on many GPUs, with Lightning Fabric.

All randomness of a step follows from the seed, the epoch, the step and the row numbers of its slices. So a killed
training resumes to the weights of an uninterrupted one, and data-parallel processes train as one process does.
"""

import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from hgisam.config.profile import Profile, Train
from hgisam.data.augmentation import augment, sample_augmentation
from hgisam.data.batches import Batch
from hgisam.data.crop import crop
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_tensors
from hgisam.runs.folders import whole_file
from hgisam.training.optimizer import freeze_backbone, learning_rate
from hgisam.training.setup import TrainingSetup, set_up_training, training_facts
from hgisam.training.state import Progress, load_state, remove_state, save_state
from hgisam.training.validation import label_thresholds

LOG_EVERY = 8  # steps between two readings of the losses, each of which waits for the GPU


def fit(profile: Profile, prepared: PreparedDataset, folder: str | Path) -> Checkpoint:
    """Train with early stopping, and keep the epoch with the best validation metric.

    The state is saved in `folder` after every epoch and every `train.save_minutes`; a call that finds one resumes it.
    Each data-parallel process (see `hgisam.training.distributed`) calls this, and the main one writes.

    Args:
        prepared: Slices with and without bleeding in both splits.
        folder: Gets `train.csv`, `predictions.parquet`, `model.safetensors` and `model.json`.

    Raises:
        InputError: As in `set_up_training`; if the folder has the state of another training, or a loss is not finite.
    """
    setup = set_up_training(profile, prepared, folder)
    progress, monitor = load_state(setup), f"val_{profile.train.monitor}"
    while progress.epoch < profile.train.epochs and progress.epochs_since_best(monitor) < profile.train.patience:
        trained = train_epoch(setup, progress, progress.epoch)
        predictions, validated = setup.validate()
        progress.end_epoch({**trained, **validated})
        if setup.is_main_process:
            if progress.epochs_since_best(monitor) == 0:
                _save_best(setup, progress, predictions)
            _write_history(setup, progress)
        save_state(setup, progress)
    remove_state(setup)
    checkpoint = load_checkpoint(setup.folder, setup.fabric.device)
    setup.fabric.barrier()  # the folder may be renamed once all processes have read it
    return checkpoint


def train_epoch(setup: TrainingSetup, progress: Progress, epoch: int) -> dict[str, float]:
    """Train an epoch, counted from 0, from the step at which it was stopped.

    `progress` gets its losses and seconds. Returns learning_rate (of the last step), train_loss and images_per_s.

    Raises:
        InputError: If a loss is not finite.
    """
    settings, first = setup.profile.train, len(progress.losses)
    freeze_backbone(setup.network, epoch < settings.head_epochs)  # linear probing
    setup.model.train()
    sizes = [len(rows) for rows in setup.epoch_batches(epoch).batches]  # of the mini-batches of all processes together
    rates = [learning_rate(settings, epoch + step / len(sizes)) for step in range(len(sizes))]
    batches = tqdm(
        setup.loader(setup.epoch_batches(epoch, first=first)), initial=first, total=len(sizes), unit="batch",
        desc=f"epoch {epoch + 1} of {settings.epochs}", leave=False, disable=not setup.is_main_process,
    )  # fmt: skip
    started = saved = time.perf_counter() - progress.seconds
    losses: list[Tensor] = []
    for step, batch in enumerate(batches, first):
        for group in setup.optimizer.param_groups:
            group["lr"] = rates[step]
        losses.append(_optimizer_step(setup, batch, epoch, step, sizes))
        if (step + 1) % LOG_EVERY and step + 1 < len(sizes):
            continue
        _read_losses(setup, progress, losses, epoch)
        now = time.perf_counter()
        progress.seconds = now - started
        images_per_s = sum(sizes[: step + 1]) / progress.seconds
        batches.set_postfix(loss=f"{np.mean(progress.losses):.3f}", images_per_s=f"{images_per_s:.0f}")
        if setup.fabric.broadcast(now - saved > 60 * settings.save_minutes):
            save_state(setup, progress)
            saved = now
    train_loss, images_per_s = float(np.mean(progress.losses)), sum(sizes) / progress.seconds
    return {"learning_rate": rates[-1], "train_loss": train_loss, "images_per_s": images_per_s}


def _optimizer_step(setup: TrainingSetup, batch: Batch, epoch: int, step: int, sizes: list[int]) -> Tensor:
    """One optimizer step with gradient accumulation, on this process's share of a mini-batch.

    `sizes` are those of all mini-batches of the epoch. Returns what the share adds to the mean loss of its mini-batch.
    """
    settings, fabric = setup.profile.train, setup.fabric
    stream = np.random.SeedSequence((setup.profile.seed, epoch, step, fabric.global_rank))
    torch.manual_seed(int(stream.generate_state(1)[0]))  # for stochastic depth
    micro_batches = torch.arange(len(batch.rows)).tensor_split(min(settings.accumulate, len(batch.rows)))
    total = torch.zeros((), device=fabric.device)
    for number, chosen in enumerate(micro_batches, start=1):
        micro_batch = Batch._make(None if values is None else values[chosen] for values in batch)
        images, target = prepare_batch(setup, micro_batch, _pass_number(settings, epoch, step, len(sizes)))
        with fabric.no_backward_sync(setup.model, enabled=number < len(micro_batches)):
            loss = setup.task.loss(setup.model(images), target, settings).sum() / sizes[step]
            fabric.backward(loss * fabric.world_size)  # since gradients are averaged over processes
        total += loss.detach()
    if settings.clip_norm > 0:  # gradients that are not finite pass; `_read_losses` stops at their loss
        fabric.clip_gradients(setup.model, setup.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    return total


def _pass_number(settings: Train, epoch: int, step: int, steps: int) -> int:
    """Number of a step's pass over the slices, counted over all epochs, so that each pass augments them differently."""
    return epoch * settings.passes + step * settings.passes // steps


def prepare_batch(setup: TrainingSetup, batch: Batch, pass_number: int) -> tuple[Tensor, Tensor]:
    """Augment, preprocess and (if `train.crop_px` is set) crop slices: images [B, C, H, W] and target [B, …].

    The augmentation differs from pass to pass over the slices; if an epoch is one pass, `pass_number` is the epoch.
    """
    settings, seed = setup.profile.train, setup.profile.seed
    changes = sample_augmentation(batch.rows.numpy(), settings.augment, seed, pass_number)
    moved = setup.fabric.to_device(batch)
    hu, brain, *mask = augment(moved.hu, moved.brain, changes, moved.mask)
    images, target = setup.preprocess(hu, brain), setup.task.target(moved._replace(mask=mask[0] if mask else None))
    if settings.crop_px is not None:
        return crop(images, target, settings.crop_px, [(seed, pass_number, row) for row in batch.rows.tolist()])
    return images, target


def _read_losses(setup: TrainingSetup, progress: Progress, losses: list[Tensor], epoch: int) -> None:
    """Move the losses of the last steps to `progress`, summed over processes.

    Raises:
        InputError: If one is not finite; names a file with its mini-batch.
    """
    summed: Any = setup.fabric.all_reduce(torch.stack(losses), reduce_op="sum")
    losses.clear()
    for loss in summed.tolist():
        if not math.isfinite(loss):
            step, file = len(progress.losses), setup.folder / "bad_batch.safetensors"
            if setup.is_main_process:
                batches = setup.epoch_batches(epoch).batches
                batch, steps = setup.slices[batches[step]], len(batches)
                images, target = prepare_batch(setup, batch, _pass_number(setup.profile.train, epoch, step, steps))
                save_tensors(file, {"rows": batch.rows, "images": images, "target": target})
            remedy = f"Lower train.learning_rate, or inspect that batch: {file}."
            raise InputError(f"training loss of epoch {epoch + 1}, step {step + 1}", loss, "a finite number", remedy)
        progress.losses.append(loss)


def _save_best(setup: TrainingSetup, progress: Progress, predictions: pd.DataFrame) -> None:
    """Save the checkpoint of the last epoch, with its operating points and its predictions on the validation slices."""
    thresholds = label_thresholds(predictions)
    checkpoint = Checkpoint(setup.network, setup.profile, setup.preprocess, thresholds["any"])
    facts = {**training_facts(setup.prepared, setup.task), "validation": progress.history[-1]}
    save_checkpoint(setup.folder, checkpoint, {**facts, "thresholds": thresholds})
    predictions.to_parquet(setup.folder / "predictions.parquet", index=False)


def _write_history(setup: TrainingSetup, progress: Progress) -> None:
    """Write `train.csv`, one row per epoch, and TensorBoard's events with `train.tensorboard`."""
    with whole_file(setup.folder / "train.csv") as scratch, scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(progress.history[0]))
        writer.writeheader()
        writer.writerows(progress.history)
    if setup.profile.train.tensorboard:
        with SummaryWriter(setup.folder / "tensorboard", purge_step=progress.epoch) as events:
            for name, value in progress.history[-1].items():
                events.add_scalar(name, value, progress.epoch)

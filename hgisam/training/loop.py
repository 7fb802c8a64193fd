"""Training: one loop for every task, on two cores or on many GPUs, with Lightning Fabric.

All randomness of a step follows from the seed, the draw of slices and the row numbers of those in the step. So a
training that was killed goes on to the weights that an undisturbed one reaches, and several processes learn what one
would.
"""

import csv
import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
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
from hgisam.training.optimizer import learning_rate, set_trunk_frozen
from hgisam.training.setup import TrainingSetup, set_up_training, training_facts
from hgisam.training.state import Progress, load_state, remove_state, save_state
from hgisam.training.validation import label_thresholds

LOOK_EVERY = 8  # steps between two looks at losses and clock, since a look waits for the GPU


def fit(profile: Profile, prepared: PreparedDataset, folder: Path) -> Checkpoint:
    """Trains until the monitored metric stops improving or the epochs are over, and keeps the best epoch.

    The whole state is saved in `folder` after every epoch and every `train.save_minutes`; a call that finds one there
    goes on from it. Of several processes (see `hgisam.training.distributed`) each calls this, and the first one writes.

    Args:
        profile: Sections `model`, `train`, `windows`, `compute`, the task and the seed.
        prepared: Needs slices with and without bleeding in both splits.
        folder: Gets `train.csv`, `predictions.parquet`, `model.safetensors` and `model.json`.

    Raises:
        InputError: If the set has another grid than the profile, a split lacks a class, the folder holds the state of
            another training, or the loss is no longer a number.
    """
    setup = set_up_training(profile, prepared, folder)
    progress = load_state(setup)
    while len(progress.history) < profile.train.epochs and _since_best(progress, profile) < profile.train.patience:
        _epoch(setup, progress)
    remove_state(setup)
    checkpoint = load_checkpoint(folder, setup.fabric.device)
    setup.fabric.barrier()  # the folder may be moved once all have read it
    return checkpoint


def _epoch(setup: TrainingSetup, progress: Progress) -> None:
    """What is left of the epoch, its validation, and the state from which the next one starts."""
    epoch = len(progress.history)
    trained = train_epoch(setup, progress, epoch)
    table, validated = setup.validate()
    row = {"epoch": epoch + 1, **trained, **validated, "seconds": progress.seconds}
    progress.history.append(row)
    progress.losses, progress.seconds = [], 0.0
    if setup.leads:
        if _since_best(progress, setup.profile) == 0:
            thresholds = label_thresholds(table)
            checkpoint = Checkpoint(setup.network, setup.profile, setup.preprocess, thresholds["any"])
            extra = {**training_facts(setup.prepared, setup.task), "validation": row, "thresholds": thresholds}
            save_checkpoint(setup.folder, checkpoint, extra)
            table.to_parquet(setup.folder / "predictions.parquet", index=False)
        _write_history(setup, progress)
    save_state(setup, progress)


def train_epoch(setup: TrainingSetup, progress: Progress, epoch: int) -> dict[str, float]:
    """One pass over a balanced draw, from the step on at which it was stopped.

    Args:
        setup: The training.
        progress: Where it stands; losses and seconds of the epoch are added to it.
        epoch: Counted from 0.

    Returns:
        learning_rate of the last step, train_loss, images_per_s.

    Raises:
        InputError: If a loss is no number.
    """
    settings, fabric, first = setup.profile.train, setup.fabric, len(progress.losses)
    set_trunk_frozen(setup.network, epoch < settings.head_epochs)
    setup.model.train()
    sizes = [len(batch) for batch in setup.epoch_batches(epoch).batches]
    steps = tqdm(
        setup.loader(setup.epoch_batches(epoch, first=first)), initial=first, total=len(sizes), unit="batch",
        desc=f"epoch {epoch + 1} of {settings.epochs}", leave=False, disable=not setup.leads,
    )  # fmt: skip
    started = saved = time.perf_counter() - progress.seconds
    recent: list[Tensor] = []
    rates = [learning_rate(settings, epoch + step / len(sizes)) for step in range(len(sizes))]
    for step, batch in enumerate(steps, first):
        draw = _draw_of(settings, epoch, step, len(sizes))
        recent.append(_step(setup, batch, epoch, step, draw, rates[step], sizes[step]))
        if (step + 1) % LOOK_EVERY and step + 1 < len(sizes):
            continue
        _look(setup, progress, recent, epoch)
        now = time.perf_counter()
        progress.seconds = now - started
        steps.set_postfix(
            loss=f"{np.mean(progress.losses):.3f}", images_per_s=f"{sum(sizes[: step + 1]) / progress.seconds:.0f}"
        )
        if fabric.broadcast(now - saved > 60 * settings.save_minutes):
            save_state(setup, progress)
            saved = now
    return {
        "learning_rate": rates[-1],
        "train_loss": float(np.mean(progress.losses)),
        "images_per_s": sum(sizes) / progress.seconds,
    }


def _draw_of(settings: Train, epoch: int, step: int, steps: int) -> int:
    """Which balanced draw a step is of, counted through all epochs, so that no two passes change a slice alike."""
    return epoch * settings.passes + step * settings.passes // steps


def _step(setup: TrainingSetup, batch: Batch, epoch: int, step: int, draw: int, rate: float, size: int) -> Tensor:
    """One step of the optimizer.

    Args:
        setup: The training.
        batch: This process's share of the batch.
        epoch: Counted from 0.
        step: Within the epoch, from 0.
        draw: From `_draw_of`.
        rate: Learning rate.
        size: Slices of the whole batch.

    Returns:
        What this share adds to the batch's mean loss.
    """
    settings, fabric = setup.profile.train, setup.fabric
    stream = np.random.SeedSequence((setup.profile.seed, epoch, step, fabric.global_rank))
    torch.manual_seed(int(stream.generate_state(1)[0]))  # for stochastic depth
    for group in setup.optimizer.param_groups:
        group["lr"] = rate
    parts = torch.arange(len(batch.rows)).tensor_split(min(settings.accumulate, len(batch.rows)))
    total = torch.zeros((), device=fabric.device)
    for number, part in enumerate(parts, start=1):
        images, target = prepare_batch(setup, _part(batch, part), draw)
        with fabric.no_backward_sync(setup.model, enabled=number < len(parts)):
            loss = setup.task.loss(setup.model(images), target, settings).sum() / size
            fabric.backward(loss * fabric.world_size)  # since gradients are averaged over processes
        total += loss.detach()
    if settings.clip_norm > 0:
        fabric.clip_gradients(
            setup.model, setup.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
        )  # `_look` stops at what is not finite, and names it
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    return total


def _part(batch: Batch, chosen: Tensor) -> Batch:
    mask = None if batch.mask is None else batch.mask[chosen]
    return Batch(batch.rows[chosen], batch.hu[chosen], batch.brain[chosen], batch.labels[chosen], mask)


def prepare_batch(setup: TrainingSetup, batch: Batch, draw: int) -> tuple[Tensor, Tensor]:
    """Slices → what the network sees of them, changed at random, and what it should say.

    Args:
        setup: The training.
        batch: Its slices.
        draw: Number of the balanced draw that they are of: the epoch's, where an epoch is one pass.

    Returns:
        Images [B, C, H, W], and the task's target [B, …], both on the setup's device.
    """
    changes = sample_augmentation(batch.rows.numpy(), setup.profile.train.augment, setup.profile.seed, draw)
    moved = setup.fabric.to_device(batch)
    hu, brain, *mask = augment(moved.hu, moved.brain, changes, moved.mask)
    images, target = setup.preprocess(hu, brain), setup.task.target(moved._replace(mask=mask[0] if mask else None))
    if (side := setup.profile.train.crop_px) is not None:
        return crop(images, target, side, [(setup.profile.seed, draw, row) for row in batch.rows.tolist()])
    return images, target


def _look(setup: TrainingSetup, progress: Progress, recent: list[Tensor], epoch: int) -> None:
    """Moves the losses of the last steps to `progress`, and stops where one is no number.

    Raises:
        InputError: Names a file with what the network saw at that step.
    """
    losses: Any = setup.fabric.all_reduce(torch.stack(recent), reduce_op="sum")
    for loss in losses.tolist():
        if not math.isfinite(loss):
            step, file = len(progress.losses), setup.folder / "bad_batch.safetensors"
            if setup.leads:
                batches = setup.epoch_batches(epoch).batches
                batch, draw = setup.slices[batches[step]], _draw_of(setup.profile.train, epoch, step, len(batches))
                images, target = prepare_batch(setup, batch, draw)
                save_tensors(file, {"rows": batch.rows, "images": images, "target": target})
            raise InputError(
                f"training loss of epoch {epoch + 1}, step {step + 1}", loss, "a finite number",
                f"Lower train.learning_rate, or look at that batch: {file}.",
            )  # fmt: skip
        progress.losses.append(loss)
    recent.clear()


def _write_history(setup: TrainingSetup, progress: Progress) -> None:
    """`train.csv`, and TensorBoard's events if the profile asks for them."""
    scratch = setup.folder / ".train.csv.tmp"
    with scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(progress.history[0]))
        writer.writeheader()
        writer.writerows(progress.history)
    scratch.replace(setup.folder / "train.csv")
    if setup.profile.train.tensorboard:
        epoch = len(progress.history)
        with closing(SummaryWriter(setup.folder / "tensorboard", purge_step=epoch)) as events:
            for name, value in progress.history[-1].items():
                events.add_scalar(name, value, epoch)


def _since_best(progress: Progress, profile: Profile) -> int:
    """Epochs since the one with the best monitored metric, the first of equals."""
    values = [row[f"val_{profile.train.monitor}"] for row in progress.history]
    if not values:
        return 0
    best = np.argmin(values) if profile.train.monitor == "loss" else np.argmax(values)
    return len(values) - 1 - int(best)

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
from hgisam.training.setup import TrainingSetup, set_up_training
from hgisam.training.state import Progress, load_state, remove_state, save_state
from hgisam.training.validation import label_thresholds, validate

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
    session = set_up_training(profile, prepared, folder)
    progress = load_state(session)
    while len(progress.history) < profile.train.epochs and _since_best(progress, profile) < profile.train.patience:
        _epoch(session, progress)
    remove_state(session)
    checkpoint = load_checkpoint(folder, session.fabric.device)
    session.fabric.barrier()  # the folder may be moved once all have read it
    return checkpoint


def _epoch(session: TrainingSetup, progress: Progress) -> None:
    """What is left of the epoch, its validation, and the state from which the next one starts."""
    epoch = len(progress.history)
    trained = train_epoch(session, progress, epoch)
    table, validated = validate(session)
    row = {"epoch": epoch + 1, **trained, **validated, "seconds": progress.seconds}
    progress.history.append(row)
    progress.losses, progress.seconds = [], 0.0
    if session.leads:
        if _since_best(progress, session.profile) == 0:
            thresholds = label_thresholds(table)
            checkpoint = Checkpoint(session.network, session.profile, session.mean, session.std, thresholds["any"])
            extra = {**session.facts, "validation": row, "thresholds": thresholds}
            save_checkpoint(session.folder, checkpoint, extra)
            table.to_parquet(session.folder / "predictions.parquet", index=False)
        _write_history(session, progress)
    save_state(session, progress)


def train_epoch(session: TrainingSetup, progress: Progress, epoch: int) -> dict[str, float]:
    """One pass over a balanced draw, from the step on at which it was stopped.

    Args:
        session: The training.
        progress: Where it stands; losses and seconds of the epoch are added to it.
        epoch: Counted from 0.

    Returns:
        learning_rate of the last step, train_loss, images_per_s.

    Raises:
        InputError: If a loss is no number.
    """
    settings, fabric, first = session.profile.train, session.fabric, len(progress.losses)
    set_trunk_frozen(session.network, epoch < settings.head_epochs)
    session.model.train()
    sizes = [len(batch) for batch in session.epoch_batches(epoch).batches]
    steps = tqdm(
        session.loader(session.epoch_batches(epoch, first=first)), initial=first, total=len(sizes), unit="batch",
        desc=f"epoch {epoch + 1} of {settings.epochs}", leave=False, disable=not session.leads,
    )  # fmt: skip
    started = saved = time.perf_counter() - progress.seconds
    recent: list[Tensor] = []
    rates = [learning_rate(settings, epoch + step / len(sizes)) for step in range(len(sizes))]
    for step, batch in enumerate(steps, first):
        draw = _draw_of(settings, epoch, step, len(sizes))
        recent.append(_step(session, batch, epoch, step, draw, rates[step], sizes[step]))
        if (step + 1) % LOOK_EVERY and step + 1 < len(sizes):
            continue
        _look(session, progress, recent, epoch)
        now = time.perf_counter()
        progress.seconds = now - started
        steps.set_postfix(
            loss=f"{np.mean(progress.losses):.3f}", images_per_s=f"{sum(sizes[: step + 1]) / progress.seconds:.0f}"
        )
        if fabric.broadcast(now - saved > 60 * settings.save_minutes):
            save_state(session, progress)
            saved = now
    return {
        "learning_rate": rates[-1],
        "train_loss": float(np.mean(progress.losses)),
        "images_per_s": sum(sizes) / progress.seconds,
    }


def _draw_of(settings: Train, epoch: int, step: int, steps: int) -> int:
    """Which balanced draw a step is of, counted through all epochs, so that no two passes change a slice alike."""
    return epoch * settings.passes + step * settings.passes // steps


def _step(session: TrainingSetup, batch: Batch, epoch: int, step: int, draw: int, rate: float, size: int) -> Tensor:
    """One step of the optimizer.

    Args:
        session: The training.
        batch: This process's share of the batch.
        epoch: Counted from 0.
        step: Within the epoch, from 0.
        draw: From `_draw_of`.
        rate: Learning rate.
        size: Slices of the whole batch.

    Returns:
        What this share adds to the batch's mean loss.
    """
    settings, fabric = session.profile.train, session.fabric
    stream = np.random.SeedSequence((session.profile.seed, epoch, step, fabric.global_rank))
    torch.manual_seed(int(stream.generate_state(1)[0]))  # for stochastic depth
    for group in session.optimizer.param_groups:
        group["lr"] = rate
    parts = torch.arange(len(batch.rows)).tensor_split(min(settings.accumulate, len(batch.rows)))
    total = torch.zeros((), device=fabric.device)
    for number, part in enumerate(parts, start=1):
        images, target = prepare_batch(session, _part(batch, part), draw)
        with fabric.no_backward_sync(session.model, enabled=number < len(parts)):
            loss = session.task.loss(session.model(images), target, settings).sum() / size
            fabric.backward(loss * fabric.world_size)  # since gradients are averaged over processes
        total += loss.detach()
    if settings.clip_norm > 0:
        fabric.clip_gradients(
            session.model, session.optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False
        )  # `_look` stops at what is not finite, and names it
    session.optimizer.step()
    session.optimizer.zero_grad()
    return total


def _part(batch: Batch, chosen: Tensor) -> Batch:
    mask = None if batch.mask is None else batch.mask[chosen]
    return Batch(batch.rows[chosen], batch.hu[chosen], batch.brain[chosen], batch.labels[chosen], mask)


def prepare_batch(session: TrainingSetup, batch: Batch, draw: int) -> tuple[Tensor, Tensor]:
    """Slices → what the network sees of them, changed at random, and what it should say.

    Args:
        session: The training.
        batch: Its slices.
        draw: Number of the balanced draw that they are of: the epoch's, where an epoch is one pass.

    Returns:
        Images [B, C, H, W], and the task's target [B, …], both on the session's device.
    """
    changes = sample_augmentation(batch.rows.numpy(), session.profile.train.augment, session.profile.seed, draw)
    moved = session.fabric.to_device(batch)
    hu, brain, *mask = augment(moved.hu, moved.brain, changes, moved.mask)
    images, target = session.images(hu, brain), session.task.target(moved._replace(mask=mask[0] if mask else None))
    if (side := session.profile.train.crop_px) is not None:
        return crop(images, target, side, [(session.profile.seed, draw, row) for row in batch.rows.tolist()])
    return images, target


def _look(session: TrainingSetup, progress: Progress, recent: list[Tensor], epoch: int) -> None:
    """Moves the losses of the last steps to `progress`, and stops where one is no number.

    Raises:
        InputError: Names a file with what the network saw at that step.
    """
    losses: Any = session.fabric.all_reduce(torch.stack(recent), reduce_op="sum")
    for loss in losses.tolist():
        if not math.isfinite(loss):
            step, file = len(progress.losses), session.folder / "bad_batch.safetensors"
            if session.leads:
                batches = session.epoch_batches(epoch).batches
                batch, draw = session.slices[batches[step]], _draw_of(session.profile.train, epoch, step, len(batches))
                images, target = prepare_batch(session, batch, draw)
                save_tensors(file, {"rows": batch.rows, "images": images, "target": target})
            raise InputError(
                f"training loss of epoch {epoch + 1}, step {step + 1}", loss, "a finite number",
                f"Lower train.learning_rate, or look at that batch: {file}.",
            )  # fmt: skip
        progress.losses.append(loss)
    recent.clear()


def _write_history(session: TrainingSetup, progress: Progress) -> None:
    """`train.csv`, and TensorBoard's events if the profile asks for them."""
    scratch = session.folder / ".train.csv.tmp"
    with scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(progress.history[0]))
        writer.writeheader()
        writer.writerows(progress.history)
    scratch.replace(session.folder / "train.csv")
    if session.profile.train.tensorboard:
        epoch = len(progress.history)
        with closing(SummaryWriter(session.folder / "tensorboard", purge_step=epoch)) as events:
            for name, value in progress.history[-1].items():
                events.add_scalar(name, value, epoch)


def _since_best(progress: Progress, profile: Profile) -> int:
    """Epochs since the one with the best monitored metric, the first of equals."""
    values = [row[f"val_{profile.train.monitor}"] for row in progress.history]
    if not values:
        return 0
    best = np.argmin(values) if profile.train.monitor == "loss" else np.argmax(values)
    return len(values) - 1 - int(best)

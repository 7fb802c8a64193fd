"""How fast training is: the whole loop, against the network alone on tensors that lie on the device."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hgisam.config.profile import Profile, load_profile
from hgisam.data.batches import Batches, SliceDataset, batch_loader
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.training.loop import prepare_batch, train_epoch
from hgisam.training.setup import TrainingSetup, set_up_training
from hgisam.training.state import Progress
from hgisam_book.benchmarks.map_cost import matmul_rate, milliseconds, operations, peak_megabytes


def measure_training(
    profile: str, prepared: PreparedDataset, ways: Sequence[Sequence[str]], *, overrides: Sequence[str], repeat: int
) -> list[dict[str, Any]]:
    """Measures an epoch of the training loop, and as many bare steps, for each way of running it.

    A bare step is a forward and a backward pass on images that lie on the device; the loop reads, changes, windows and
    standardises them too, and steps the optimizer.

    Args:
        profile: Name or path.
        prepared: A set of its grid; an epoch of it is what is timed, so a few batches are enough.
        ways: Overrides of each way, e.g. `["compute.precision=32-true"]`; no way at all is `[]`.
        overrides: Those of all of them.
        repeat: Timed rounds of loop and bare steps in turn; the shortest of each counts.

    Returns:
        A row a way: device, way, batch, precision, images_per_s, bare_images_per_s, of_bare, peak_mb of a step, and on
        a GPU of_matmul_rate.
    """
    rows = []
    rate: float | None = None
    for way in ways:
        settings = load_profile(profile, [*overrides, *way])
        session = set_up_training(settings, prepared, Path())
        device = session.fabric.device.type
        if device == "cuda" and rate is None:
            rate = matmul_rate(repeat)
        rows.append(_row(session, " ".join(way) or "as the profile says", repeat, rate))
    return rows


def few_batches(prepared: PreparedDataset, profile: Profile, batches: int) -> PreparedDataset:
    """A small part of a set, read into memory: enough for an epoch of a few batches and one validation batch.

    Args:
        prepared: The set.
        profile: Its seed and its batch size.
        batches: Of training.
    """
    generator, chosen = np.random.default_rng(profile.seed), []
    for split, count in (("train", batches), ("val", 1)):
        rows = prepared.rows(split)
        bleeds = prepared.slices["any"].to_numpy()[rows] == 1
        most = count * profile.train.batch_size // 2
        chosen += [generator.choice(r, min(most, len(r)), replace=False) for r in (rows[bleeds], rows[~bleeds])]
    kept = np.sort(np.concatenate(chosen))
    hu, brain = prepared.hu[kept], prepared.brain[kept]
    mask = None if prepared.mask is None else prepared.mask[kept]
    slices = prepared.slices.iloc[kept].reset_index(drop=True)
    hashes = {**prepared.meta["hashes"], "rows": hashlib.sha256(kept.tobytes()).hexdigest()}
    return replace(prepared, meta={**prepared.meta, "hashes": hashes}, slices=slices, hu=hu, brain=brain, mask=mask)


def _row(session: TrainingSetup, way: str, repeat: int, rate: float | None) -> dict[str, Any]:
    profile, device = session.profile, session.fabric.device.type
    sizes = [len(batch) for batch in session.epoch_batches(0)]
    first = session.slices[next(iter(session.epoch_batches(0)))]
    images, target = prepare_batch(session, first, 0)
    count = sum(sizes)

    def bare() -> None:
        for size in sizes:
            _bare_step(session, images[:size], target[:size])

    def loop() -> None:
        train_epoch(session, Progress(), 0)

    taken = milliseconds({"loop": loop, "bare": bare}, repeat, device)
    row: dict[str, Any] = {
        "device": device,
        "way": way,
        "batch": profile.train.batch_size,
        "precision": profile.compute.precision,
        "images_per_s": 1000 * count / taken["loop"],
        "bare_images_per_s": 1000 * count / taken["bare"],
        "of_bare": taken["bare"] / taken["loop"],
        "peak_mb": peak_megabytes(lambda: _bare_step(session, images, target), device),
    }
    if rate is not None:
        needed = operations(lambda: _bare_step(session, images, target)) / len(images)
        row["of_matmul_rate"] = needed * row["images_per_s"] / rate
    return row


def _bare_step(session: TrainingSetup, images: Tensor, target: Tensor) -> None:
    settings = session.profile.train
    parts = min(settings.accumulate, len(images))
    for image, wanted in zip(images.tensor_split(parts), target.tensor_split(parts), strict=True):
        session.fabric.backward(session.task.loss(session.model(image), wanted, settings).sum() / len(images))
    session.optimizer.zero_grad()


def loader_rate(prepared: PreparedDataset, *, jobs: int, batch: int, seconds: float) -> float:
    """Slices a second that `jobs` processes read at random from the prepared set, on disk whatever its size.

    Args:
        prepared: The set.
        jobs: Processes.
        batch: Slices that are read at once.
        seconds: How long to measure, after the first batch of each process.

    Raises:
        InputError: If there are more jobs than batches.
    """
    slices = SliceDataset(prepared, most_bytes=0)
    count = max(len(prepared.slices), 200 * batch)
    batches = Batches(np.random.default_rng(0).permutation(np.resize(prepared.rows(), count)), batch)
    if len(batches) <= jobs:
        got = f"{len(batches)} batches for {jobs} jobs"
        raise InputError("loader benchmark", got, "more batches than jobs", "Give a larger set, or fewer jobs.")
    loader = iter(batch_loader(slices, batches, workers=jobs))
    for _ in islice(loader, jobs):
        pass
    started, read = time.perf_counter(), 0
    for found in loader:
        read += len(found.rows)
        if time.perf_counter() - started > seconds:
            break
    return read / (time.perf_counter() - started)

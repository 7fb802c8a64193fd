"""Throughput of training: the whole loop, compared with bare forward and backward passes on tensors on the device."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hgisam.config.profile import load_profile
from hgisam.data.batches import Batches, SliceDataset, batch_loader
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.models.device import usable_precision
from hgisam.training.loop import prepare_batch, train_epoch
from hgisam.training.setup import TrainingSetup, set_up_training
from hgisam.training.state import Progress
from hgisam_book.benchmarks.map_cost import count_flops, matmul_rate, milliseconds, peak_memory_mb


def measure_training(
    profile: str, prepared: PreparedDataset, ways: Sequence[Sequence[str]], *, overrides: Sequence[str], repeat: int
) -> list[dict[str, Any]]:
    """Measure an epoch of the training loop and as many bare steps, for several variants of the settings.

    A bare step is a forward and a backward pass on images that are already on the device. The loop also reads,
    augments, windows and standardises the slices, and steps the optimizer.

    Args:
        profile: Name or path of the profile.
        prepared: A prepared set with the profile's grid; one epoch of it is timed, so a few batches are enough.
        ways: Overrides of each variant, e.g. `["compute.precision=32-true"]`; `[]` for the default settings.
        overrides: Overrides of all variants.
        repeat: Timed rounds, loop and bare steps interleaved; the shortest time of each counts.

    Returns:
        One row per variant: device, way, batch, precision, images_per_s, bare_images_per_s, of_bare (share of bare
        steps), peak_mb of a step, and on a GPU of_matmul_rate.
    """
    rows = []
    rate: float | None = None
    for way in ways:
        settings = load_profile(profile, [*overrides, *way])
        session = set_up_training(settings, prepared, Path())
        device = session.fabric.device.type
        if device == "cuda" and rate is None:
            rate = matmul_rate(repeat)
        rows.append(_row(session, " ".join(way) or "default", repeat, rate))
    return rows


def few_batches(prepared: PreparedDataset, batches: int, *, batch_size: int, seed: int) -> PreparedDataset:
    """A small subset of a prepared set in memory: a few training batches and one validation batch.

    Args:
        prepared: The prepared set.
        batches: Number of training batches.
        batch_size: Slices of a training batch.
        seed: Of the sample.
    """
    generator, chosen = np.random.default_rng(seed), []
    for split, count in (("train", batches), ("val", 1)):
        rows = prepared.rows(split)
        bleeds = prepared.slices["any"].to_numpy()[rows] == 1
        limit = count * batch_size // 2
        chosen += [generator.choice(r, min(limit, len(r)), replace=False) for r in (rows[bleeds], rows[~bleeds])]
    kept = np.sort(np.concatenate(chosen))
    hu, brain = prepared.hu[kept], prepared.brain[kept]
    mask = None if prepared.mask is None else prepared.mask[kept]
    slices = prepared.slices.iloc[kept].reset_index(drop=True)
    hashes = {**prepared.meta["hashes"], "rows": hashlib.sha256(kept.tobytes()).hexdigest()}
    meta = {**prepared.meta, "hashes": hashes, "absent_patients": 0}  # few are meant, even of an excerpt
    return replace(prepared, meta=meta, slices=slices, hu=hu, brain=brain, mask=mask)


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

    times = milliseconds({"loop": loop, "bare": bare}, repeat, device)
    row: dict[str, Any] = {
        "device": device,
        "way": way,
        "batch": profile.train.batch_size,
        "precision": usable_precision(profile.compute.precision, session.fabric.device),
        "images_per_s": 1000 * count / times["loop"],
        "bare_images_per_s": 1000 * count / times["bare"],
        "of_bare": times["bare"] / times["loop"],
        "peak_mb": peak_memory_mb(lambda: _bare_step(session, images, target), device),
    }
    if rate is not None:
        flops = count_flops(lambda: _bare_step(session, images, target)) / len(images)
        row["of_matmul_rate"] = flops * row["images_per_s"] / rate
    return row


def _bare_step(session: TrainingSetup, images: Tensor, target: Tensor) -> None:
    settings = session.profile.train
    parts = min(settings.accumulate, len(images))
    for image, label in zip(images.tensor_split(parts), target.tensor_split(parts), strict=True):
        session.fabric.backward(session.task.loss(session.model(image), label, settings).sum() / len(images))
    session.optimizer.zero_grad()


def loader_rate(prepared: PreparedDataset, *, jobs: int, batch: int, seconds: float) -> float:
    """Measure the random read rate of a prepared set in slices per second, from disk whatever its size.

    Args:
        prepared: The prepared set.
        jobs: Number of reading processes.
        batch: Slices per read.
        seconds: Duration of the measurement, after the first batch of each process.

    Raises:
        InputError: If there are more jobs than batches.
    """
    slices = SliceDataset(prepared, most_bytes=0)
    count = max(len(prepared.slices), 200 * batch)
    batches = Batches(np.random.default_rng(0).permutation(np.resize(prepared.rows(), count)), batch)
    if len(batches) <= jobs:
        got = f"{len(batches)} batches for {jobs} jobs"
        raise InputError("loader benchmark", got, "more batches than jobs", "Use a larger set or fewer jobs.")
    loader = iter(batch_loader(slices, batches, workers=jobs))
    for _ in islice(loader, jobs):
        pass
    started, read = time.perf_counter(), 0
    for found in loader:
        read += len(found.rows)
        if time.perf_counter() - started > seconds:
            break
    return read / (time.perf_counter() - started)

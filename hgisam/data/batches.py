"""From prepared slices to batches, and from batches to what the classifier sees, on the device."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hgisam.data.prepared import LABELS, PreparedDataset, require_masks

IN_MEMORY_BYTES = 2**31  # a set whose HU is smaller than this is read once


class Batch(NamedTuple):
    """Slices on their way to the device.

    Attributes:
        rows: Row numbers in the prepared set [B].
        hu: int16 [B, H, W].
        brain: uint8 [B, H, W], 0 outside.
        labels: 0 or 1, int64 [B, 6], in the order of `LABELS`.
        mask: uint8 [B, H, W], 0 for none, or None where masks are not read.
    """

    rows: Tensor
    hu: Tensor
    brain: Tensor
    labels: Tensor
    mask: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; row numbers stay on the CPU."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.rows, self.hu.to(device), self.brain.to(device), self.labels.to(device), mask)


class SliceDataset(Dataset[Batch]):
    """Slices of a prepared data set, addressed by whole batches of row numbers.

    Args:
        prepared: The set.
        with_mask: Whether its masks are read too.
        most_bytes: A set whose HU take no more is read once; a larger one stays on disk.
    """

    def __init__(
        self, prepared: PreparedDataset, *, with_mask: bool = False, most_bytes: int = IN_MEMORY_BYTES
    ) -> None:
        self.in_memory = prepared.hu.nbytes <= most_bytes
        arrays = [prepared.hu, prepared.brain, *([require_masks(prepared)] if with_mask else [])]
        self.arrays: list[Any] = [array[:] for array in arrays] if self.in_memory else arrays
        self.labels = torch.from_numpy(prepared.slices[list(LABELS)].to_numpy(np.int64, copy=True))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Row numbers [B] → the slices of these rows."""
        read = [array[rows] for array in self.arrays]
        hu, brain, *mask = (torch.from_numpy(values) for values in read)
        return Batch(torch.from_numpy(rows), hu, brain, self.labels[rows], *mask)


class Batches:
    """Row numbers, batch by batch, in the order given; sizes differ by one at most, so that no batch is a mere rest.

    Args:
        rows: Row numbers [n] in their order.
        batch_size: Largest batch.
        first: Batches that are left out at the beginning, because they are done.
        rank: Which share of each batch is this process's: every `world`-th row from `rank` on.
        world: Processes that share each batch.
    """

    def __init__(
        self, rows: npt.NDArray[np.int64], batch_size: int, *, first: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.batches = np.array_split(rows, -(-len(rows) // batch_size))[first:]
        self.rank, self.world = rank, world

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        for batch in self.batches:
            yield batch[self.rank :: self.world]

    def __len__(self) -> int:
        return len(self.batches)


def batch_loader(dataset: SliceDataset, batches: Batches, *, workers: int = 0, pin: bool = False) -> DataLoader[Any]:
    """A loader that yields a `Batch` for each of `batches`.

    Args:
        dataset: Where the slices come from; a set in memory needs no workers and gets none.
        batches: Which rows.
        workers: Processes that read ahead; started afresh and not forked, since threads survive no fork.
        pin: Whether to read into memory from which a GPU can copy.
    """
    workers = 0 if dataset.in_memory else min(workers, len(batches))
    context = "forkserver" if workers else None
    return DataLoader(
        dataset, sampler=batches, batch_size=None, num_workers=workers, multiprocessing_context=context, pin_memory=pin
    )


def evenly_spaced(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of some rows, spread evenly over them."""
    chosen: npt.NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]
    return chosen


def balanced_sample(
    rows: npt.NDArray[np.int64], bleeds: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One epoch: as many slices without bleeding as with, each at most once, shuffled.

    Args:
        rows: Row numbers of the training split [n].
        bleeds: Whether each of them bleeds [n].
        generator: Where the randomness comes from.

    Source: the released code draws 2 × positives without replacement.
    """
    positive, negative = rows[bleeds], rows[~bleeds]
    count = min(len(positive), len(negative))
    chosen = [generator.choice(group, count, replace=False) for group in (positive, negative)]
    return generator.permutation(np.concatenate(chosen))

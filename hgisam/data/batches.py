"""Batches of prepared slices: sampled, split over processes, loaded."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset, require_masks

IN_MEMORY_BYTES = 2**31  # data sets with less HU than this are read into memory


class Batch(NamedTuple):
    """Slices for one step.

    Attributes:
        rows: Row numbers in the prepared data set [B].
        hu: int16 [B, H, W].
        brain: uint8 [B, H, W], 0 outside.
        labels: 0 or 1, int64 [B, 6], in the order of `LABELS`.
        mask: uint8 [B, H, W], 0 outside bleeds, or None where masks are not read.

    Example:
        >>> hu, labels = torch.zeros(2, 8, 8, dtype=torch.int16), torch.zeros(2, 6, dtype=torch.int64)
        >>> Batch(torch.arange(2), hu, (hu > 0).byte(), labels).to(torch.device("cpu")).hu.shape
        torch.Size([2, 8, 8])
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
    """Slices of a prepared data set, indexed by whole batches of row numbers.

    Args:
        prepared: The data set.
        with_mask: True to read its masks too.
        most_bytes: A data set with no more HU is read into memory; a larger one stays on disk.

    Example:
        >>> from pathlib import Path
        >>> import pandas as pd
        >>> hu, slices = np.zeros((2, 8, 8), np.int16), pd.DataFrame(dict.fromkeys(LABELS, [0, 1]))
        >>> dataset = SliceDataset(PreparedDataset(Path("mine"), {}, slices, hu, brain=hu, mask=None))
        >>> dataset[np.array([1])].labels
        tensor([[1, 1, 1, 1, 1, 1]])
    """

    def __init__(
        self, prepared: PreparedDataset, *, with_mask: bool = False, most_bytes: int = IN_MEMORY_BYTES
    ) -> None:
        self.in_memory = prepared.hu.nbytes <= most_bytes
        arrays = [prepared.hu, prepared.brain, *([require_masks(prepared)] if with_mask else [])]
        self.arrays: list[Any] = [array[:] for array in arrays] if self.in_memory else arrays
        self.labels = torch.from_numpy(prepared.slices[list(LABELS)].to_numpy(np.int64, copy=True))

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Slices of the row numbers [B]."""
        hu, brain, *mask = (torch.from_numpy(array[rows]) for array in self.arrays)
        return Batch(torch.from_numpy(rows), hu, brain, self.labels[rows], *mask)


class Batches:
    """Row numbers in batches of nearly equal size, in the given order.

    Args:
        rows: Row numbers [n].
        batch_size: Largest batch.
        first: Number of batches to skip, because they are done.
        rank: Index of this process, which gets every `world`-th row of each batch from `rank` on.
        world: Number of processes that share each batch.

    Example:
        >>> [rows.tolist() for rows in Batches(np.arange(5), batch_size=2)]
        [[0, 1], [2, 3], [4]]
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
    """Data loader that yields a `Batch` for each of `batches`.

    Args:
        dataset: The slices; in memory they need no workers and get none.
        batches: Row numbers.
        workers: Processes that read ahead; started by a fork server, since threads do not survive a fork.
        pin: True for pinned memory, from which a GPU can copy.

    Example:
        >>> from pathlib import Path
        >>> import pandas as pd
        >>> hu, slices = np.zeros((3, 8, 8), np.int16), pd.DataFrame(dict.fromkeys(LABELS, [0, 1, 0]))
        >>> dataset = SliceDataset(PreparedDataset(Path("mine"), {}, slices, hu, brain=hu, mask=None))
        >>> [batch.hu.shape for batch in batch_loader(dataset, Batches(np.arange(3), batch_size=2))]
        [torch.Size([2, 8, 8]), torch.Size([1, 8, 8])]
    """
    workers = 0 if dataset.in_memory else min(workers, len(batches))
    context = "forkserver" if workers else None
    return DataLoader(
        dataset, sampler=batches, batch_size=None, num_workers=workers, multiprocessing_context=context, pin_memory=pin
    )


def evenly_spaced(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of some rows, evenly spaced."""
    chosen: npt.NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]
    return chosen


def balanced_sample(
    rows: npt.NDArray[np.int64], bleeds: npt.NDArray[np.bool_], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """One epoch of row numbers: as many slices without a bleed as with one, without replacement, shuffled.

    `rows` [n] are those of the training split, `bleeds` [n] is True for slices with a bleed.

    Source: the released code samples 2 × positives without replacement.
    """
    positive, negative = rows[bleeds], rows[~bleeds]
    count = min(len(positive), len(negative))
    chosen = [generator.choice(group, count, replace=False) for group in (positive, negative)]
    return generator.permutation(np.concatenate(chosen))

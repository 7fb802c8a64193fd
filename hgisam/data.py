"""From prepared slices to batches, and from batches to what the classifier sees, on the device."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hgisam.prepared import LABELS, PreparedDataset, require_masks
from hgisam.profile import Profile
from hgisam.recipes import RECIPES
from hgisam.windows import apply_windows

IN_MEMORY_BYTES = 2**31  # a set whose HU is smaller than this is read once
BRAIN_HU = 34.0  # between white and grey matter
DENSEST_BLOOD_HU = 100.0
BONE_EDGE_MM = 1.0  # how far the blurred edge of bone passes for blood
FILL_MM = 1.5  # standard deviation of the weights with which tissue is continued to the bone


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


def balanced_rows(
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


def channel_statistics(dataset: SliceDataset, rows: npt.NDArray[np.int64], profile: Profile) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] of the windowed soft tissue in at most 1,024 training slices, spread evenly."""
    sample = rows[np.linspace(0, len(rows) - 1, min(len(rows), 1024)).astype(int)]
    total, squares = torch.zeros(2, len(profile.windows), dtype=torch.float64)
    count = torch.tensor(0)
    for batch in batch_loader(dataset, Batches(sample, 64)):
        levelled, inside = soft_tissue(batch.hu, batch.brain, profile.pixel_mm)
        channels = apply_windows(levelled, profile.windows).double()
        total += (channels * inside[:, None]).sum(dim=(0, 2, 3))
        squares += (channels.square() * inside[:, None]).sum(dim=(0, 2, 3))
        count = count + inside.sum()
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(1e-6).sqrt().float()


def soft_tissue(hu: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """The brain at one level, without bone and calcium.

    Scanners and kernels differ by several HU in what they call brain, and blood differs from it by few more: the median
    of each slice's brain (of every second pixel along a side, for speed) is shifted to `BRAIN_HU`. What is denser than
    blood can be is not blood, and its blurred edge passes through the HU of blood: both are left out.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        pixel_mm: Pixel pitch.

    Returns:
        Levelled HU [B, H, W] float32, and where soft tissue of the brain is [B, H, W] bool.
    """
    hu = hu.float()
    inside = brain > 0
    sample = hu[:, ::2, ::2].masked_fill(~inside[:, ::2, ::2], torch.nan)
    median = sample.flatten(start_dim=1).nanmedian(dim=1).values
    hu = hu + (BRAIN_HU - median).nan_to_num(0.0)[:, None, None]
    edge = max(1, round(BONE_EDGE_MM / pixel_mm))
    return hu, inside & ~_dilated(hu > DENSEST_BLOOD_HU, edge)


def _dilated(mask: Tensor, pixels: int) -> Tensor:
    """Where a mask [B, H, W] bool is true within so many pixels along rows and cols, a square; faster than pooling."""
    for axis in (1, 2):
        grown, length = mask.clone(), mask.shape[axis]
        for shift in range(1, min(pixels, length - 1) + 1):
            ahead, behind = mask.narrow(axis, shift, length - shift), mask.narrow(axis, 0, length - shift)
            grown.narrow(axis, 0, length - shift).logical_or_(ahead)
            grown.narrow(axis, shift, length - shift).logical_or_(behind)
        mask = grown
    return mask


def continue_to_bone(levelled: Tensor, tissue: Tensor, brain: Tensor, pixel_mm: float) -> tuple[Tensor, Tensor]:
    """Fills what bone outshines with the tissue beside it.

    A subdural or epidural bleed lies on the bone: without this, nearly half of it on a coarse grid would be left out
    with the bone's edge.

    Args:
        levelled: [B, H, W] HU from `soft_tissue`.
        tissue: [B, H, W] bool, likewise.
        brain: [B, H, W], 0 outside; nothing is filled there.
        pixel_mm: Pixel pitch.

    Returns:
        HU [B, H, W] float32, and where there is any, seen or filled [B, H, W] bool. A filled pixel is the mean of the
        tissue around it, weighted by a Gaussian of `FILL_MM`.
    """
    sigma_px = torch.full(levelled.shape[:1], FILL_MM / pixel_mm, device=levelled.device)
    radius = math.ceil(3 * FILL_MM / pixel_mm)
    near = gaussian_blur(tissue.float(), sigma_px, radius)
    beside = gaussian_blur(torch.where(tissue, levelled, 0.0), sigma_px, radius) / near.clamp_min(1e-3)
    fillable = (brain > 0) & (near > 0.02)
    return torch.where(tissue, levelled, beside), tissue | fillable


def to_images(hu: Tensor, brain: Tensor, profile: Profile, mean: Tensor, std: Tensor) -> Tensor:
    """What the classifier sees, as the recipe says.

    "corrected": the soft tissue of the brain, windowed and standardised by its own statistics. Beside 1,000 HU of bone,
    20 HU of blood are lost; standardised over soft tissue they are several standard deviations. All else is set to the
    mean, so that neither the decision nor the map can lean on skull, face or head rest. "published": the whole slice,
    windowed, each channel stretched to 0..1.

    Args:
        hu: [B, H, W] HU.
        brain: [B, H, W], 0 outside.
        profile: Its windows, one a channel, the pixel pitch and the recipe.
        mean: [C] from `channel_statistics`.
        std: [C] likewise.

    Returns:
        [B, C, H, W] float32.
    """
    if RECIPES[profile.train.recipe].scale == "slice":
        channels = apply_windows(hu, profile.windows)
        least, most = channels.amin(dim=(2, 3), keepdim=True), channels.amax(dim=(2, 3), keepdim=True)
        return (channels - least) / (most - least).clamp_min(1e-6)
    shape = (1, -1, 1, 1)
    levelled, tissue = soft_tissue(hu, brain, profile.pixel_mm)
    filled, inside = continue_to_bone(levelled, tissue, brain, profile.pixel_mm)
    channels = apply_windows(filled, profile.windows)
    return channels.sub_(mean.to(hu.device).view(shape)).div_(std.to(hu.device).view(shape)).mul_(inside[:, None])


def gaussian_blur(images: Tensor, sigma_px: Tensor, radius: int = 3) -> Tensor:
    """Gaussian blur of [B, H, W], each image with its own sigma [B], cut off at `radius` pixels."""
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)  # [B, 2 · radius + 1]
    batch, taps = kernel.shape
    padded = F.pad(images[None], (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel.view(batch, 1, taps, 1), groups=batch)
    return F.conv2d(rows, kernel.view(batch, 1, 1, taps), groups=batch)[0]

"""Maps and bleeding scores of a whole prepared set, streamed to disk."""

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
import zarr
from torch import Tensor
from tqdm import tqdm

from hgisam.attention.hooks import record_outputs
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.maps import METHODS
from hgisam.models.checkpoint import Checkpoint
from hgisam.training.fabric import make_fabric

BLOCK = 64  # slices written at once, one chunk
PROGRESS = "progress.zarr"
Method = Callable[..., Tensor]
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def methods_of(profile: Profile, names: Iterable[str] | None = None) -> dict[str, Method]:
    """Name → method with the options that the profile gives it; without names, the methods of the profile."""
    options = {"hgi_sam": {"gradient_at": profile.maps.gradient_at, "stages": tuple(profile.maps.stages)}}
    return {name: partial(METHODS[name], **options.get(name, {})) for name in names or profile.maps.methods}


def extract_maps(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, folder: Path) -> None:
    """Writes `maps.zarr` (float16 [slice, row, col], one array a method) and `scores.parquet` (row, score).

    The maps are not restricted to the brain. A block of slices at a time is read, mapped and written, so that memory
    does not grow with the set; a stopped call goes on at the block where it was.

    Args:
        checkpoint: The trained classifier.
        profile: Sections `maps` and `compute`.
        prepared: Slices to explain; another slice size than the classifier's is resized there and back.
        folder: May hold what a stopped call left.

    Raises:
        InputError: If the set shows another field of view than the classifier was trained on.
    """
    _check_field(checkpoint.profile, prepared)
    device = make_fabric(profile.compute).device
    checkpoint.model.to(device)
    methods = methods_of(profile)
    count, *size = prepared.hu.shape
    root = zarr.open_group(folder / "maps.zarr", mode="a")
    chunks = (BLOCK, *size)
    arrays = {name: root.require_array(name, shape=(count, *size), dtype="float16", chunks=chunks) for name in methods}
    scores = scores_so_far(folder / PROGRESS, count)
    done = int(np.isfinite(scores[:]).sum())
    with tqdm(total=count, initial=done, desc="maps", unit="slice") as bar:
        for start in range(done, count, BLOCK):
            rows = slice(start, min(start + BLOCK, count))
            images = images_of(checkpoint, prepared.hu[rows], prepared.brain[rows], device)
            with record_outputs(checkpoint.model) as logits:
                for name, method in methods.items():
                    arrays[name][rows] = maps_of(method, checkpoint, images, profile, size[0])
            probability = checkpoint.task.score(torch.cat(logits)[: len(images)])  # every method classifies all of them
            scores[rows] = probability.double().cpu().numpy()
            bar.update(len(images))
    pd.DataFrame({"row": np.arange(count), "score": scores[:]}).to_parquet(folder / "scores.parquet", index=False)
    shutil.rmtree(folder / PROGRESS)


def scores_so_far(path: Path, count: int) -> Any:
    """Array of a score a slice, NaN where there is none yet; a block's score is written after its maps."""
    return zarr.open_array(path, mode="a", shape=(count,), dtype="float64", chunks=(BLOCK,), fill_value=np.nan)


def images_of(
    checkpoint: Checkpoint, hu: npt.NDArray[np.int16], brain: npt.NDArray[np.uint8], device: torch.device
) -> Tensor:
    """Prepared slices, both [B, H, W] → what the classifier reads, [B, C, image_px, image_px]."""
    size = checkpoint.profile.data.image_px
    levels, inside = (resize(torch.from_numpy(array).to(device).float(), size) for array in (hu, brain))
    return checkpoint.images(levels, inside >= 0.5)


def autocast(profile: Profile, device: torch.device) -> torch.autocast:
    """The precision of the profile, as a context."""
    dtype = AUTOCAST.get(profile.compute.precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def maps_of(
    method: Method, checkpoint: Checkpoint, images: Tensor, profile: Profile, size: int
) -> npt.NDArray[np.float16]:
    """Maps [B, size, size] of the bleeding class, in the batches and the precision of the profile."""
    done = []
    for batch in torch.split(images, profile.maps.batch_size):
        with autocast(profile, images.device):
            maps = method(checkpoint.model, batch, checkpoint.task.bleeding)
        done.append(resize(maps, size).half().cpu())
    return torch.cat(done).numpy()


def resize(slices: Tensor, size: int) -> Tensor:
    """[B, H, W] → [B, size, size]: averaged when it shrinks, bilinear when it grows."""
    if slices.shape[1] == size:
        return slices
    return F.interpolate(slices[:, None], (size, size), mode="bilinear", align_corners=False, antialias=True)[:, 0]


def _check_field(trained: Profile, prepared: PreparedDataset) -> None:
    field_mm = prepared.slices["pixel_mm"].iloc[0] * prepared.meta["size_px"]
    expected_mm = trained.data.field_of_view_mm
    if abs(field_mm / expected_mm - 1) > 0.01:
        remedy = f"Prepare it again with --field-of-view-mm {expected_mm:g}."
        raise InputError(
            f"field of view of {prepared.path}", f"{field_mm:g} mm", f"{expected_mm:g} mm, as trained", remedy
        )

"""What segmenters say of every slice, each slice by networks that never saw its mask: one network a fold."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import zarr
from torch import Tensor, nn
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.evaluation.score_maps import VALIDATION
from hgisam.inference.extraction import BLOCK, PROGRESS, images_of, maps_of, scores_so_far
from hgisam.models.checkpoint import Checkpoint
from hgisam.training.fabric import make_fabric

Arrays = dict[str, npt.NDArray[np.float16]]


def probability_of_bleeding(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Softmax of class `target` in every pixel, by a segmenter; has the signature of the methods of `hgisam.maps`.

    Args:
        model: From images to logits [B, K, H, W].
        images: [B, C, H, W].
        target: Index of a class.

    Returns:
        [B, H, W] in [0, 1], float32; not restricted to the brain.
    """
    with torch.no_grad():
        logits: Tensor = model(images)
    return logits.float().softmax(dim=1)[:, target]


def extract_by_fold(
    name: str, checkpoints: Sequence[Checkpoint], profile: Profile, prepared: PreparedDataset, folder: Path
) -> None:
    """Writes `maps.zarr` and `scores.parquet` (row, score) of a method that has a network a fold.

    The group has two arrays, float16 [slice, row, col]: `name`, each slice by the network that held its fold out, and
    `name`_validation, each slice by the network whose epoch its fold chose. A score is the largest probability of a
    slice in the first. A block of slices at a time is read, put through its networks and written; a stopped call goes
    on at the block where it was.

    Args:
        name: Of the method.
        checkpoints: The network of each fold, in their order.
        profile: Sections `maps` and `compute`.
        prepared: The set that they were trained on.
        folder: May hold what a stopped call left.
    """
    device = make_fabric(profile.compute).device
    for checkpoint in checkpoints:
        checkpoint.model.to(device)
    roles = [by_fold(prepared, fold).slices["split"].to_numpy() for fold in sorted(prepared.slices["fold"].unique())]
    count, *size = prepared.hu.shape
    root = zarr.open_group(folder / "maps.zarr", mode="a")
    options: dict[str, Any] = {"shape": (count, *size), "dtype": "float16", "chunks": (BLOCK, *size)}
    arrays = {split: root.require_array(name + end, **options) for split, end in (("test", ""), ("val", VALIDATION))}
    scores = scores_so_far(folder / PROGRESS, count)
    done = int(np.isfinite(scores[:]).sum())
    with tqdm(total=count, initial=done, desc=name, unit="slice") as bar:
        for start in range(done, count, BLOCK):
            rows = slice(start, min(start + BLOCK, count))
            found = _of_block(checkpoints, [role[rows] for role in roles], profile, prepared, rows, device)
            for split, array in arrays.items():
                array[rows] = found[split]
            scores[rows] = found["test"].max(axis=(1, 2)).astype(np.float64)
            bar.update(rows.stop - start)
    pd.DataFrame({"row": np.arange(count), "score": scores[:]}).to_parquet(folder / "scores.parquet", index=False)
    shutil.rmtree(folder / PROGRESS)


def _of_block(
    checkpoints: Sequence[Checkpoint],
    roles: Sequence[npt.NDArray[np.object_]],
    profile: Profile,
    prepared: PreparedDataset,
    rows: slice,
    device: torch.device,
) -> Arrays:
    """The slices of a block, "test" and "val" [n, H, W], each by the network for which it has that role."""
    hu, brain = prepared.hu[rows], prepared.brain[rows]
    found: Arrays = {split: np.zeros(hu.shape, np.float16) for split in ("test", "val")}
    for checkpoint, role in zip(checkpoints, roles, strict=True):
        for split, values in found.items():
            if (mine := role == split).any():
                images = images_of(checkpoint, hu[mine], brain[mine], device)
                values[mine] = maps_of(probability_of_bleeding, checkpoint, images, profile, hu.shape[1])
    return found

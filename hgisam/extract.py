"""Maps and bleeding scores of a whole prepared set, streamed to disk."""

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

from hgisam.checkpoint import Checkpoint
from hgisam.errors import InputError
from hgisam.maps import METHODS
from hgisam.models import BLEEDING
from hgisam.prepared import PreparedDataset
from hgisam.profile import Profile
from hgisam.run import read_json, write_json
from hgisam.train import make_fabric

BLOCK = 64  # slices written at once, one chunk


def methods_of(profile: Profile) -> dict[str, Any]:
    """Name → method with the options that the profile gives it."""
    options = {"hgi_sam": {"gradient_at": profile.maps.gradient_at, "stages": tuple(profile.maps.stages)}}
    return {name: partial(METHODS[name], **options.get(name, {})) for name in profile.maps.methods}


def extract_maps(checkpoint: Checkpoint, profile: Profile, prepared: PreparedDataset, folder: Path) -> None:
    """Writes `maps.zarr` (float16 [slice, row, col], one array a method) and `scores.parquet` (row, score).

    The maps are not restricted to the brain. A stopped call goes on at the block where it was.

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
    shape = prepared.hu.shape
    root = zarr.open_group(folder / "maps.zarr", mode="a")
    arrays = {
        name: root.require_array(name, shape=shape, dtype="float16", chunks=(BLOCK, *shape[1:])) for name in methods
    }
    progress = folder / "progress.json"
    scores: list[float] = read_json(progress) if progress.is_file() else []
    size = checkpoint.profile.data.image_px
    with tqdm(total=shape[0], initial=len(scores), desc="maps", unit="slice") as bar:
        for start in range(len(scores), shape[0], BLOCK):
            rows = np.arange(start, min(start + BLOCK, shape[0]))
            hu, brain = (
                resize(torch.from_numpy(array[rows[0] : rows[-1] + 1]).to(device).float(), size)
                for array in (prepared.hu, prepared.brain)
            )
            images = checkpoint.images(hu, brain >= 0.5)
            with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=_bf16(profile)):
                scores += checkpoint.probability(images).cpu().tolist()
            for name, method in methods.items():
                arrays[name][rows[0] : rows[-1] + 1] = _maps(method, checkpoint, images, profile, shape[1])
            write_json(progress, scores)
            bar.update(len(rows))
    pd.DataFrame({"row": np.arange(shape[0]), "score": scores}).to_parquet(folder / "scores.parquet", index=False)
    progress.unlink(missing_ok=True)


def _maps(method: Any, checkpoint: Checkpoint, images: Tensor, profile: Profile, size: int) -> npt.NDArray[np.float16]:
    done = []
    for batch in torch.split(images, profile.maps.batch_size):
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=_bf16(profile)):
            done.append(resize(method(checkpoint.model, batch, BLEEDING), size).cpu())
    return torch.cat(done).numpy().astype(np.float16)


def resize(slices: Tensor, size: int) -> Tensor:
    """[B, H, W] → [B, size, size]: averaged when it shrinks, bilinear when it grows."""
    if slices.shape[1] == size:
        return slices
    return F.interpolate(slices[:, None], (size, size), mode="bilinear", align_corners=False, antialias=True)[:, 0]


def _bf16(profile: Profile) -> bool:
    return profile.compute.precision == "bf16-mixed"


def _check_field(trained: Profile, prepared: PreparedDataset) -> None:
    field_mm = prepared.slices["pixel_mm"].iloc[0] * prepared.meta["size_px"]
    expected_mm = trained.data.field_of_view_mm
    if abs(field_mm / expected_mm - 1) > 0.01:
        remedy = f"Prepare it again with --field-of-view-mm {expected_mm:g}."
        raise InputError(
            f"field of view of {prepared.path}", f"{field_mm:g} mm", f"{expected_mm:g} mm, as trained", remedy
        )

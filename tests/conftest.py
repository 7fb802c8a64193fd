"""Small things that several tests need."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from data_prep.prepared_set import write_prepared
from hgisam.config.profile import Profile, load_profile
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.data.preprocess import Preprocessor
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import build_network

TINY = (
    "data.image_px=32", "model.patch_px=2", "model.window_tokens=2", "model.channels=16", "model.heads=[1,2,2,4]",
    "train.epochs=2", "train.batch_size=8", "train.warmup_epochs=0", "evaluate.bootstrap=100",
    "compute.precision=32-true", "compute.accelerator=cpu", "maps.batch_size=8", "evaluate.thresholds=20",
    "compute.trainings=1",
)  # fmt: skip

SMALL_UNET = {  # a training of a segmenter, beside TINY
    "task": "segmentation", "train.monitor": "dice", "train.epochs": 1, "segmenter.channels": [8, 16],
    "train.batch_size": 4, "train.augment.hide": 0,
}  # fmt: skip
NO_NUMBERS = [f"model.{key}=null" for key in ("patch_px", "channels", "depths", "heads")]  # for a Swin by its name
SWIN_UNETR = [
    "segmenter.architecture=swin_unetr", "segmenter.channels=null", "segmenter.norm=null",
    "segmenter.feature_size=12", "segmenter.depths=[2,2,2,2]", "segmenter.heads=[2,4,8,16]",
]  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate disk; remounting sets its size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount a disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def tiny() -> Profile:
    """A profile whose model has a few thousand weights: stages of 16², 8², 4² and 2² tokens, windows of 2²."""
    return load_profile("smoke", TINY)


@pytest.fixture
def tiny_model(tiny: Profile) -> torch.nn.Module:
    """Random weights, the same each time; evaluation mode."""
    torch.manual_seed(0)
    return build_network(tiny).eval()


def make_prepared(
    out: str | Path, *, patients: int = 8, slices: int = 6, size_px: int = 32,
    splits: tuple[str, str] = ("train", "val"), with_mask: bool = True, seed: int = 0,
    field_mm: float = 200.0, brain_hu: float = 30.0,
) -> Path:  # fmt: skip
    """Disc heads; every other patient bleeds a bright square; patients 2, 3, 6, 7, … are in `splits[1]`."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    blocks = []
    r, c = np.mgrid[:size_px, :size_px] - size_px / 2
    brain = (np.hypot(r, c) < size_px * 0.4).astype(np.uint8)
    for p in range(patients):
        hu = np.where(brain, brain_hu, -1000) + rng.normal(0, 2, (slices, size_px, size_px))
        mask = np.zeros(hu.shape, np.uint8)
        if p % 2 == 0:
            at = size_px // 2 + int(rng.integers(-4, 4))
            mask[2:4, at - 3 : at + 3, at - 3 : at + 3] = 6
            hu = np.where(mask, 70, hu)
        blocks.append((hu.astype(np.int16), np.repeat(brain[None], slices, 0), mask if with_mask else None))
        for s in range(slices):
            bleeds = int(mask[s].any())
            labels = dict.fromkeys(LABELS, 0) | {"any": bleeds, "intraparenchymal": bleeds}
            rows.append(
                {"patient": f"p{p}", "study": f"s{p}", "slice_index": s, "source_index": s, "position_mm": 5.0 * s,
                 "slice_mm": 5.0, "split": splits[p % 4 >= 2], "fold": p // 2 % 4, **labels,
                 "pixel_mm": field_mm / size_px,
                 "native_rows": 64, "native_cols": 64, "native_row0": 0.5, "native_col0": 0.5, "native_step_row": 2.0,
                 "native_step_col": 2.0}
            )  # fmt: skip
    info = {"name": "test", "source": "test", "licence": "none", "skipped": []}
    return write_prepared(
        out, slices=pd.DataFrame(rows), blocks=blocks, size_px=size_px, with_mask=with_mask, info=info
    )


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has bfloat16, or emulates it, for tests of small networks."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)


def untrained(model: nn.Module, profile: Profile) -> Checkpoint:
    """A checkpoint whose preprocessing leaves windowed channels as they are."""
    preprocess = replace(Preprocessor.of(profile), mean=torch.zeros(3), std=torch.ones(3))
    return Checkpoint(model, profile, preprocess, 0.5)


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    """Eight bleeding slices, four of validation and four of test patients."""
    return open_prepared(make_prepared(tmp_path / "set", splits=("val", "test")))


@pytest.fixture
def checkpoint(tiny: Profile, tiny_model: nn.Module) -> Checkpoint:
    """Reads the slices of `prepared` as they are."""
    return untrained(tiny_model, tiny)

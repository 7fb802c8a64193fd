"""Benchmark of training: images/s, compared with bare forward and backward passes, for several variants of settings.

python ci/bench_train.py --profile laptop --json book/recorded/bench_train_NAME.json

It trains on random slices with eight batches per epoch, because their content does not affect the time. The device is
that of the profile; --set compute.accelerator=cpu measures the CPU of a machine with a GPU. The chapter on training on
a GPU shows the records in book/recorded/.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.prepared_set import StudyArrays, write_prepared
from hgisam.config.profile import Profile, load_profile
from hgisam.data.labels import LABELS
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.models.networks import build_network
from hgisam_book.benchmarks.map_cost import machine
from hgisam_book.benchmarks.training_speed import loader_rate, measure_training
from hgisam_book.recorded.benchmarks import DEFAULT_WAY, record_table
from hgisam_book.recorded.model_card import network_name

WAYS = (DEFAULT_WAY, "float32", "compile", "checkpointing", "accumulate=2", "half the batch")
USUAL = tuple(way for way in WAYS if way != "compile")  # compile takes minutes on a CPU
# one process; all weights are trained, and no state is saved during the epoch
OVERRIDES = ("compute.devices=1", "compute.nodes=1", "train.head_epochs=0", "train.save_minutes=1e9")
SLICES = 8  # per patient; every other slice bleeds
READING_S = 3.0


def overrides_of(way: str, profile: Profile) -> list[str]:
    """Profile overrides of a variant."""
    changes = {
        DEFAULT_WAY: [],
        "float32": ["compute.precision=32-true"],
        "compile": ["compute.compile=true"],
        "checkpointing": ["compute.checkpointing=true"],
        "accumulate=2": ["train.accumulate=2"],
        "half the batch": [f"train.batch_size={profile.train.batch_size // 2}"],
    }
    return changes[way]


def make_set(out: Path, profile: Profile) -> PreparedDataset:
    """Write a prepared set of random slices on the grid of the profile, with eight batches per epoch."""
    patients = ["train"] * profile.train.batch_size + ["val"] * 2
    where = {"slice_mm": 5.0, "fold": 0, "pixel_mm": profile.pixel_mm, "native_row0": 0.0, "native_col0": 0.0}
    native = {"native_rows": profile.data.image_px, "native_cols": profile.data.image_px}
    rows = [
        {"patient": f"p{patient}", "study": f"s{patient}", "slice_index": index, "source_index": index,
         "position_mm": 5.0 * index, "split": split, **where, **native, "native_step_row": 1.0, "native_step_col": 1.0,
         **dict.fromkeys(LABELS, 0), "any": index % 2, "subdural": index % 2}
        for patient, split in enumerate(patients)
        for index in range(SLICES)
    ]  # fmt: skip
    info = {"name": "random slices", "source": "ci/bench_train.py", "licence": "Apache-2.0", "skipped": []}
    size_px = profile.data.image_px
    blocks = random_studies(len(patients), size_px)
    write_prepared(out, slices=pd.DataFrame(rows), blocks=blocks, size_px=size_px, with_mask=True, info=info)
    return open_prepared(out)


def random_studies(count: int, size_px: int) -> Iterator[StudyArrays]:
    """Random studies (hu, brain, mask), each [slice, size_px, size_px]: a noisy disc, every other slice with a spot."""
    rng = np.random.default_rng(0)
    row, col = np.mgrid[:size_px, :size_px] / size_px - 0.5
    brain = np.repeat((np.hypot(row, col) < 0.42)[None], SLICES, axis=0)
    for _ in range(count):
        spots = np.stack([np.hypot(row - r, col - c) < 0.05 for r, c in rng.uniform(-0.25, 0.25, (SLICES, 2))])
        spots[::2] = False
        hu = np.where(spots, 65, np.where(brain, 32, -1000)) + rng.normal(0, 6, brain.shape)
        yield hu.astype(np.int16), brain.astype(np.uint8), 5 * spots.astype(np.uint8)


def measure_profile(
    profile: str, overrides: Sequence[str], ways: Sequence[str], jobs: int | None, repeat: int
) -> dict[str, Any]:
    """Measure a profile; returns the record: machine, network, read rate, and one row per variant."""
    settings = load_profile(profile, [*overrides, *OVERRIDES])
    jobs = settings.compute.jobs if jobs is None else jobs
    changes = [overrides_of(way, settings) for way in ways]
    with tempfile.TemporaryDirectory() as folder:
        prepared = make_set(Path(folder) / "set", settings)
        read_per_s = loader_rate(prepared, jobs=jobs, batch=settings.train.batch_size, seconds=READING_S)
        rows = measure_training(profile, prepared, changes, overrides=[*overrides, *OVERRIDES], repeat=repeat)
    rows = [row | {"way": way} for row, way in zip(rows, ways, strict=True)]
    device = rows[0]["device"]
    rows += [{"device": other, "way": "not run"} for other in ("cpu", "cuda") if other != device]
    return machine(device, "train") | {
        "profile": settings.name,
        "model": network_name(settings.task, settings.model, settings.segmenter),
        "img_size": settings.data.image_px,
        "parameters": sum(p.numel() for p in build_network(settings).parameters()),
        "loader": {"jobs": jobs, "slices_per_s": read_per_s},
        "repeat": repeat,
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and optionally write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="laptop", help="name or path of the profile")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override; may be repeated")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(USUAL), help="variants; default: all but compile"
    )
    parser.add_argument("--jobs", type=int, help="reading processes; default: compute.jobs of the profile")
    parser.add_argument("--repeat", type=int, default=3, help="timed rounds; the shortest counts")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    try:
        record = measure_profile(options.profile, options.set, options.ways, options.jobs, options.repeat)
    except InputError as error:
        sys.exit(f"bench_train: {error}")
    print(*(f"{key}: {value}" for key, value in record.items() if key != "rows"), sep="\n")
    table = record_table(record["rows"])
    print(*(f"| {' | '.join(cells)} |" for cells in [table.columns, ["---"] * table.shape[1], *table.values]), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

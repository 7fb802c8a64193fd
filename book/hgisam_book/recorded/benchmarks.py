"""Recorded benchmarks: what `ci/bench_*.py` wrote, as tables and against what was aimed at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.runs.files import read_json
from hgisam_book.figures import METHOD_NAMES

Record = Mapping[str, Any]
COLUMNS = {
    "device": "device",
    "precision": "precision",
    "way": "way",
    "batch": "batch",
    "ms_a_slice": "ms a slice",
    "forward_passes": "forward passes",
    "times_faster": "times faster",
    "images_per_s": "images a second",
    "bare_images_per_s": "bare steps alone",
    "of_bare": "of bare steps",
    "of_matmul_rate": "of the matmul rate",
    "peak_mb": "peak MB",
}
TARGET_MODEL = {"model": "swin_base_patch4_window12_384", "img_size": 384}
AS_IT_IS = "as it is"  # the way of training that the profile says


@dataclass(frozen=True)
class Target:
    """A figure that was aimed at.

    `precision`: "any", or that of a record's rows. `column`: of the rows. `bound`: `least` or most that it may be.
    `any_model`: of any model, or of `TARGET_MODEL`. `every`: each record has to meet it, not only the best.
    """

    text: str
    device: str
    precision: str
    column: str
    bound: float
    least: bool
    any_model: bool = False
    every: bool = False


TARGETS = (
    Target("forward passes a slice", "cpu", "fp32", "forward_passes", 2.3, False),
    Target("times faster than the straightforward way in fp32", "cpu", "bf16", "times_faster", 4.0, True),
    Target("mean change of the map from fp32", "cpu", "bf16", "mean_change", 1e-3, False),
    Target("forward passes a slice", "cuda", "bf16", "forward_passes", 2.5, False),
    Target("times faster than the straightforward way in fp32", "cuda", "bf16", "times_faster", 20.0, True),
    Target("share of the card's rate in a bf16 matrix product", "cuda", "bf16", "of_matmul_rate", 0.3, True),
)
LOOP, READING = "the loop, of bare steps", "reading from disk, of the loop"
TRAINING_TARGETS = (
    Target(LOOP, "cpu", "any", "of_bare", 0.9, True, any_model=True, every=True),
    Target(READING, "cpu", "any", "of_loop", 1.0, True, any_model=True, every=True),
    Target(LOOP, "cuda", "any", "of_bare", 0.9, True, any_model=True, every=True),
    Target(READING, "cuda", "any", "of_loop", 1.0, True, any_model=True, every=True),
    Target("share of the card's rate in a bf16 matrix product", "cuda", "bf16-mixed", "of_matmul_rate", 0.4, True),
)
INGEST = "prepare"  # the way of the one row of a record of `ci/bench_ingest.py`
INGEST_TARGETS = (
    Target("slices of 512² a core-second", "cpu", "any", "slices_per_s", 50, True, any_model=True, every=True),
    Target("of bare decoding", "cpu", "any", "of_bare", 0.125, True, any_model=True, every=True),
    Target("two workers against one", "cpu", "any", "two_workers", 1.8, True, any_model=True, every=True),
    Target("peak MB of a worker", "cpu", "any", "peak_mb", 1536, False, any_model=True, every=True),
    Target(
        "peak MB at many studies against few", "cpu", "any", "memory_growth", 1.1, False, any_model=True, every=True
    ),
    Target(
        "prepared slices read at random a second", "cpu", "any", "read_per_s", 1000, True, any_model=True, every=True
    ),
)


def read_records(folder: Path, work: str = "maps") -> dict[str, Record]:
    """File name → record, of every `bench_<work>_*.json` of a folder; none where there is no such folder.

    Args:
        folder: Where they lie.
        work: "maps", "train" or "ingest".

    Raises:
        InputError: If one is broken.
    """
    return {path.name: read_json(path) for path in sorted(folder.glob(f"bench_{work}_*.json"))}


def record_note(name: str, record: Record, *, engine: str) -> str:
    """Markdown: what a record was measured on, and whether with the code of this hash."""
    work = "training" if "loader" in record else "map"
    code = f"the {work} code as it is" if record["engine"] == engine else f"an earlier version of the {work} code"
    about = (
        f"**`{name}`**: {record['model']} at {record['img_size']} px; {record['cpu']}, threads: {record['threads']}, "
        f"GPU: {record['gpu']}; torch {record['torch']}, timm {record['timm']}, {code}"
    )
    if (loader := record.get("loader")) is None:
        return about
    read = f"{loader['slices_per_s']:,.0f} slices a second read from disk by {loader['jobs']} processes"
    return f"{about}; {record['parameters'] / 1e6:.1f} million parameters; {read}"


def rows_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `benchmark.measure` or `throughput.measure_training` as text.

    A dash where a figure has no meaning, no column where it never has one.
    """
    columns = {column: title for column, title in COLUMNS.items() if any(column in row for row in rows)}
    named = [row | {"way": _way(row["way"])} for row in rows]
    return pd.DataFrame([{title: _text(row.get(column, "–")) for column, title in columns.items()} for row in named])


def judge(records: Sequence[Record], targets: Sequence[Target] = TARGETS) -> pd.DataFrame:
    """Each target with the best that any record measured, or the worst if all have to meet it, and whether it was met.

    Args:
        records: Of one kind of work, whatever the batch.
        targets: `TARGETS` of maps, `TRAINING_TARGETS` or `INGEST_TARGETS`.
    """
    judged = []
    for target in targets:
        rows = [row for record in records if _concerns(target, record) for row in _measured(record)]
        mine = [row for row in rows if target.column in row and _matches(target, row)]
        worst_first = sorted(mine, key=lambda row: row[target.column], reverse=not target.least)
        found = {"measured": "not run", "batch": "–", "verdict": "not run"}
        for row in worst_first[:1] if target.every else worst_first[-1:]:
            met = row[target.column] >= target.bound if target.least else row[target.column] <= target.bound
            found = {"measured": _text(row[target.column]), "batch": str(row["batch"])}
            found["verdict"] = "met" if met else "missed"
        wanted = f"{'≥' if target.least else '≤'} {target.bound:g}"
        judged.append(
            {"device": target.device, "precision": target.precision, "target": target.text, "wanted": wanted, **found}
        )
    return pd.DataFrame(judged)


def _concerns(target: Target, record: Record) -> bool:
    return target.any_model or TARGET_MODEL.items() <= record.items()


def _matches(target: Target, row: Record) -> bool:
    return target.device == row["device"] and target.precision in ("any", row["precision"])


def _measured(record: Record) -> list[dict[str, Any]]:
    """Rows that are judged: of training as the profile says, or of maps and, a row a device, the change of the map."""
    if "loader" in record:
        read_per_s, rows = record["loader"]["slices_per_s"], record["rows"]
        return [row | {"of_loop": read_per_s / row["images_per_s"]} for row in rows if row["way"] == AS_IT_IS]
    if record["rows"][0]["way"] == INGEST:
        return list(record["rows"])
    rows = [row for row in record["rows"] if str(row["way"]).startswith("hgi_sam")]
    for device, about in record["devices"].items():
        change = {"mean_change": about["mean_change_fp32_to_bf16"]}
        rows.append({"device": device, "precision": "bf16", "batch": "–", **change})
    return rows


def _way(way: str) -> str:
    """A way for readers: the method's name, and what is not eager."""
    name, _, mode = way.partition(", ")
    return METHOD_NAMES.get(name, name) + (f", {mode}" if mode not in ("", "eager") else "")


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"

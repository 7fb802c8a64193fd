"""Recorded benchmarks of `ci/bench_*.py`: tables, and comparison with their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.runs.files import read_json
from hgisam_book.figures import METHOD_NAMES

Record = Mapping[str, Any]
COLUMNS = {  # key in a record → column heading
    "library": "library",
    "device": "device",
    "precision": "precision",
    "way": "variant",
    "batch": "batch",
    "ms_a_slice": "ms per slice",
    "forward_passes": "forward passes",
    "least_passes": "passes to make",
    "times_faster": "speed-up",
    "images_per_s": "images/s",
    "bare_images_per_s": "bare steps, images/s",
    "of_bare": "share of bare steps",
    "of_matmul_rate": "share of matmul rate",
    "peak_mb": "peak memory, MB",
}
TARGET_MODEL = {"model": "swin_base_patch4_window12_384", "img_size": 384}
DEFAULT_WAY = "as it is"  # training with the settings of the profile; the names of variants are those in the records
VARIANT_NAMES = {DEFAULT_WAY: "default", "straightforward": "naive"}


@dataclass(frozen=True)
class Target:
    """Target of a benchmark: a bound on one of its measurements.

    Attributes:
        metric: The measurement in words.
        device: "cpu" or "cuda".
        precision: Precision of the rows that count, or "any".
        column: Key of the measurement in the rows.
        bound: Lower bound if `least`, else upper bound.
        least: True for a lower bound.
        any_model: True if records of any model count, else only those of `TARGET_MODEL`.
        every: True if every record has to meet it, else only the best one.
    """

    metric: str
    device: str
    precision: str
    column: str
    bound: float
    least: bool
    any_model: bool = False
    every: bool = False


MAP_TARGETS = (
    Target("forward passes per slice", "cpu", "fp32", "forward_passes", 2.3, False),
    Target("speed-up over the naive implementation in fp32", "cpu", "bf16", "times_faster", 4.0, True),
    Target("mean absolute difference from the fp32 map", "cpu", "bf16", "mean_change", 1e-3, False),
    Target("forward passes per slice", "cuda", "bf16", "forward_passes", 2.5, False),
    Target("speed-up over the naive implementation in fp32", "cuda", "bf16", "times_faster", 20.0, True),
    Target("share of the GPU's rate in a bf16 matrix product", "cuda", "bf16", "of_matmul_rate", 0.3, True),
)
LOOP, READING = "training loop, share of bare steps", "reading from disk, relative to the loop"
TRAINING_TARGETS = (
    Target(LOOP, "cpu", "any", "of_bare", 0.9, True, any_model=True, every=True),
    Target(READING, "cpu", "any", "of_loop", 1.0, True, any_model=True, every=True),
    Target(LOOP, "cuda", "any", "of_bare", 0.9, True, any_model=True, every=True),
    Target(READING, "cuda", "any", "of_loop", 1.0, True, any_model=True, every=True),
    Target("share of the GPU's rate in a bf16 matrix product", "cuda", "bf16-mixed", "of_matmul_rate", 0.4, True),
)
INGEST = "prepare"  # "way" of the only row in a record of `ci/bench_ingest.py`
INGEST_TARGETS = (
    Target("slices of 512² per core and second", "cpu", "any", "slices_per_s", 50, True, any_model=True, every=True),
    Target("share of bare decoding", "cpu", "any", "of_bare", 0.125, True, any_model=True, every=True),
    Target("speed-up with two workers", "cpu", "any", "two_workers", 1.8, True, any_model=True, every=True),
    Target("peak memory per worker in MB", "cpu", "any", "peak_mb", 1536, False, any_model=True, every=True),
    Target(
        "growth of peak memory with studies",
        "cpu",
        "any",
        "memory_growth",
        1.1,
        False,
        any_model=True,
        every=True,
    ),
    Target(
        "random reads of prepared slices per second", "cpu", "any", "read_per_s", 1000, True, any_model=True, every=True
    ),
)


def read_records(folder: str | Path, work: str = "maps") -> dict[str, Record]:
    """Read all benchmark records `bench_<work>_*.json` of a folder, as file name → record.

    Args:
        folder: Folder of the records; without such a folder the result is empty.
        work: "maps", "train" or "ingest".

    Raises:
        InputError: If a record is not valid JSON.
    """
    return {path.name: read_json(path) for path in sorted(Path(folder).glob(f"bench_{work}_*.json"))}


def record_note(name: str, record: Record, *, engine: str) -> str:
    """Markdown description of a record: hardware, software, and whether it was measured with the current code.

    Args:
        name: File name of the record.
        record: The record.
        engine: Hash of the current code.
    """
    work = "training" if "loader" in record else "map"
    code = f"current {work} code" if record["engine"] == engine else f"an earlier version of the {work} code"
    about = (
        f"**`{name}`**: {record['model']} at {record['img_size']} px; {record['cpu']}, threads: {record['threads']}, "
        f"GPU: {record['gpu']}; torch {record['torch']}, timm {record['timm']}, {code}"
    )
    if (loader := record.get("loader")) is None:
        return about
    read = f"{loader['slices_per_s']:,.0f} slices/s read from disk by {loader['jobs']} processes"
    return f"{about}; {record['parameters'] / 1e6:.1f} million parameters; {read}"


def record_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Table of the rows of a record, as text.

    Args:
        rows: Rows of `map_cost.measure_map_cost` or `training_speed.measure_training`, or the libraries of
            `ci/bench_maps.py`. A missing value becomes a dash, a column without values is omitted.
    """
    columns = {column: title for column, title in COLUMNS.items() if any(column in row for row in rows)}
    named = [row | {"way": _variant(row["way"])} for row in rows]
    return pd.DataFrame([{title: _text(row.get(column, "–")) for column, title in columns.items()} for row in named])


def compare_with_targets(records: Sequence[Record], targets: Sequence[Target] = MAP_TARGETS) -> pd.DataFrame:
    """Compare records with targets, one row per target.

    Args:
        records: Records of one kind of work, of any batch size.
        targets: `MAP_TARGETS`, `TRAINING_TARGETS` or `INGEST_TARGETS`.

    Returns:
        Columns device, precision, metric, target (the bound), measured, batch and verdict ("met", "missed", "not run").
        The measured value is the best of all records, or the worst if every record has to meet the target.
    """
    compared = []
    for target in targets:
        rows = [row for record in records if _concerns(target, record) for row in _measured(record)]
        mine = [row for row in rows if target.column in row and _matches(target, row)]
        worst_first = sorted(mine, key=lambda row: row[target.column], reverse=not target.least)
        found = {"measured": "not run", "batch": "–", "verdict": "not run"}
        for row in worst_first[:1] if target.every else worst_first[-1:]:
            met = row[target.column] >= target.bound if target.least else row[target.column] <= target.bound
            found = {"measured": _text(row[target.column]), "batch": str(row["batch"])}
            found["verdict"] = "met" if met else "missed"
        bound = f"{'≥' if target.least else '≤'} {target.bound:g}"
        compared.append(
            {"device": target.device, "precision": target.precision, "metric": target.metric, "target": bound, **found}
        )
    return pd.DataFrame(compared)


def _concerns(target: Target, record: Record) -> bool:
    return target.any_model or TARGET_MODEL.items() <= record.items()


def _matches(target: Target, row: Record) -> bool:
    return target.device == row["device"] and target.precision in ("any", row["precision"])


def _measured(record: Record) -> list[dict[str, Any]]:
    """Rows that count for targets: training with default settings, ingestion, or maps with their bf16 difference."""
    if "loader" in record:
        read_per_s, rows = record["loader"]["slices_per_s"], record["rows"]
        return [row | {"of_loop": read_per_s / row["images_per_s"]} for row in rows if row["way"] == DEFAULT_WAY]
    if record["rows"][0]["way"] == INGEST:
        return list(record["rows"])
    rows = [row for row in record["rows"] if str(row["way"]).startswith("hgi_sam")]
    for device, about in record["devices"].items():
        change = {"mean_change": about["mean_change_fp32_to_bf16"]}
        rows.append({"device": device, "precision": "bf16", "batch": "–", **change})
    return rows


def _variant(way: str) -> str:
    """Display name of a variant: the method or setting, and its mode unless eager."""
    name, _, mode = way.partition(", ")
    return METHOD_NAMES.get(name, VARIANT_NAMES.get(name, name)) + (f", {mode}" if mode not in ("", "eager") else "")


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"

"""Recorded benchmarks: what `ci/bench_maps.py` wrote, as tables and against what was aimed at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.figures import METHOD_NAMES
from hgisam.run import read_json

Record = Mapping[str, Any]
COLUMNS = {
    "device": "device",
    "precision": "precision",
    "way": "way",
    "batch": "batch",
    "ms_a_slice": "ms a slice",
    "forward_passes": "forward passes",
    "times_faster": "times faster",
    "of_matmul_rate": "of the matmul rate",
    "peak_mb": "peak MB",
}
TARGET_MODEL = {"model": "swin_base_patch4_window12_384", "img_size": 384}


@dataclass(frozen=True)
class Target:
    """A figure that was aimed at, for maps of `TARGET_MODEL`.

    `column`: of a record's rows. `bound`: `least` or most that it may be.
    """

    text: str
    device: str
    precision: str
    column: str
    bound: float
    least: bool


TARGETS = (
    Target("forward passes a slice", "cpu", "fp32", "forward_passes", 2.3, False),
    Target("times faster than the straightforward way in fp32", "cpu", "bf16", "times_faster", 4.0, True),
    Target("mean change of the map from fp32", "cpu", "bf16", "mean_change", 1e-3, False),
    Target("forward passes a slice", "cuda", "bf16", "forward_passes", 2.5, False),
    Target("times faster than the straightforward way in fp32", "cuda", "bf16", "times_faster", 20.0, True),
    Target("share of the card's rate in a bf16 matrix product", "cuda", "bf16", "of_matmul_rate", 0.3, True),
)


def read_records(folder: Path) -> dict[str, Record]:
    """File name → record, of every `bench_maps_*.json` of a folder; none where there is no such folder.

    Raises:
        InputError: If one is broken.
    """
    return {path.name: read_json(path) for path in sorted(folder.glob("bench_maps_*.json"))}


def record_note(name: str, record: Record, *, engine: str) -> str:
    """Markdown: what a record was measured on, and whether with the map code of this hash."""
    code = "the map code as it is" if record["engine"] == engine else "an earlier version of the map code"
    return (
        f"**`{name}`**: {record['model']} at {record['img_size']} px; {record['cpu']}, threads: {record['threads']}, "
        f"GPU: {record['gpu']}; torch {record['torch']}, timm {record['timm']}, {code}"
    )


def rows_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `benchmark.measure` as text; a dash where a figure has no meaning, no column where it never has one."""
    columns = {column: title for column, title in COLUMNS.items() if any(column in row for row in rows)}
    named = [row | {"way": _way(row["way"])} for row in rows]
    return pd.DataFrame([{title: _text(row.get(column, "–")) for column, title in columns.items()} for row in named])


def judge(records: Sequence[Record]) -> pd.DataFrame:
    """Each target with the best that any record of its model measured, whatever the batch, and whether it was met."""
    rows = [row for record in records if _of_target_model(record) for row in _measured(record)]
    judged = []
    for target in TARGETS:
        key = {"device": target.device, "precision": target.precision}
        mine = [row for row in rows if target.column in row and key.items() <= row.items()]
        best = sorted(mine, key=lambda row: row[target.column], reverse=target.least)[:1]
        found = {"measured": "not run", "batch": "–", "verdict": "not run"}
        for row in best:
            met = row[target.column] >= target.bound if target.least else row[target.column] <= target.bound
            found = {"measured": _text(row[target.column]), "batch": str(row["batch"])}
            found["verdict"] = "met" if met else "missed"
        wanted = f"{'≥' if target.least else '≤'} {target.bound:g}"
        judged.append(
            {"device": target.device, "precision": target.precision, "target": target.text, "wanted": wanted, **found}
        )
    return pd.DataFrame(judged)


def _of_target_model(record: Record) -> bool:
    return TARGET_MODEL.items() <= record.items()


def _measured(record: Record) -> list[dict[str, Any]]:
    """Rows of maps, and the change of the map as one more row a device."""
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

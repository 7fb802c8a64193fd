"""Recorded benchmarks: tables with no more than was measured, targets judged by the best row of the right model."""

import json
from pathlib import Path
from typing import Any

import pytest

from hgisam.errors import InputError
from hgisam.records import TARGETS, judge, read_records, record_note, rows_table


def row(**values: Any) -> dict[str, Any]:
    return {"device": "cpu", "precision": "fp32", "way": "hgi_sam, eager", "batch": 1, "ms_a_slice": 1.0, **values}


def record(*rows: dict[str, Any], change: float = 1e-4, **values: Any) -> dict[str, Any]:
    about = {"model": "swin_base_patch4_window12_384", "img_size": 384, "cpu": "a CPU", "threads": 2, "gpu": "not run"}
    versions = {"torch": "2", "timm": "1", "engine": "abc"}
    return about | versions | {"rows": list(rows), "devices": {"cpu": {"mean_change_fp32_to_bf16": change}}} | values


def test_without_a_record_nothing_is_claimed(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nowhere") == {}
    judged = judge([])
    assert len(judged) == len(TARGETS)
    assert set(judged["verdict"]) == set(judged["measured"]) == {"not run"}


def test_records_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"bench_maps_{name}.json").write_text(json.dumps(record()))
    (tmp_path / "other.json").write_text("{}")
    assert list(read_records(tmp_path)) == ["bench_maps_a.json", "bench_maps_b.json"]
    (tmp_path / "bench_maps_a.json").write_text("{")
    with pytest.raises(InputError, match="bench_maps_a"):
        read_records(tmp_path)


def test_targets_take_the_best_batch_and_only_their_own_rows() -> None:
    rows = [
        row(forward_passes=2.4),
        row(forward_passes=2.25, batch=8),
        row(forward_passes=0.5, way="grad_cam, eager"),
        row(precision="bf16", forward_passes=1.0, times_faster=3.1),
        row(precision="bf16", forward_passes=1.0, times_faster=3.9, batch=8),
    ]
    judged = judge([record(*rows), record(row(forward_passes=1.0), change=0.0, img_size=224)])
    assert judged["verdict"].tolist() == ["met", "missed", "met", "not run", "not run", "not run"]
    assert judged["measured"].tolist()[:3] == ["2.25", "3.90", "0.000100"]
    assert judged["batch"].tolist()[:3] == ["8", "8", "–"]
    assert judged["wanted"].tolist()[:2] == ["≤ 2.3", "≥ 4"]


def test_rows_table_names_ways_and_drops_empty_columns() -> None:
    rows = [row(way="straightforward", ms_a_slice=1234.5), row(forward_passes=2.123), row(way="hgi_sam, compiled")]
    table = rows_table([*rows, {"device": "cuda", "way": "not run"}])
    assert table["way"].tolist() == ["straightforward", "HGI-SAM", "HGI-SAM, compiled", "not run"]
    assert list(table.columns) == ["device", "precision", "way", "batch", "ms a slice", "forward passes"]
    assert table["ms a slice"].tolist() == ["1234", "1.00", "1.00", "–"]
    assert table["forward passes"].tolist() == ["–", "2.12", "–", "–"]


def test_a_note_says_whether_the_code_has_changed_since() -> None:
    assert "the map code as it is" in record_note("x.json", record(), engine="abc")
    assert "an earlier version" in record_note("x.json", record(), engine="def")

"""Recorded benchmarks: tables without empty columns, targets compared with the best row of the right model."""

import json
from pathlib import Path
from typing import Any

import pytest

from hgisam.errors import InputError
from hgisam_book.recorded.benchmarks import (
    MAP_TARGETS,
    TRAINING_TARGETS,
    compare_with_targets,
    read_records,
    record_note,
    record_table,
)


def row(**values: Any) -> dict[str, Any]:
    return {"device": "cpu", "precision": "fp32", "way": "hgi_sam, eager", "batch": 1, "ms_a_slice": 1.0, **values}


def record(*rows: dict[str, Any], change: float = 1e-4, **values: Any) -> dict[str, Any]:
    about = {"model": "swin_base_patch4_window12_384", "img_size": 384, "cpu": "a CPU", "threads": 2, "gpu": "not run"}
    versions = {"torch": "2", "timm": "1", "engine": "abc"}
    return about | versions | {"rows": list(rows), "devices": {"cpu": {"mean_change_fp32_to_bf16": change}}} | values


def training(*, device: str, of_bare: float, read: float = 100.0, **values: Any) -> dict[str, Any]:
    """Record of training with one variant besides the default, and no other device."""
    about = {"device": device, "precision": "bf16-mixed", "batch": 32, "images_per_s": 100.0, "peak_mb": 1.0}
    rows = [about | {"way": "as it is", "of_bare": of_bare}, about | {"way": "float32", "of_bare": 0.1}]
    rows[0] |= values.pop("row", {})
    loader = {"jobs": 2, "slices_per_s": read}
    missing = {"device": "cuda" if device == "cpu" else "cpu", "way": "not run"}
    return record(*rows, missing) | {"loader": loader, "parameters": 2_300_000} | values


def test_without_a_record_every_target_is_not_run(tmp_path: Path) -> None:
    assert read_records(tmp_path / "nowhere") == {}
    compared = compare_with_targets([])
    assert len(compared) == len(MAP_TARGETS)
    assert set(compared["verdict"]) == set(compared["measured"]) == {"not run"}


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
    compared = compare_with_targets([record(*rows), record(row(forward_passes=1.0), change=0.0, img_size=224)])
    assert compared["verdict"].tolist() == ["met", "missed", "met", "not run", "not run", "not run"]
    assert compared["measured"].tolist()[:3] == ["2.25", "3.90", "0.000100"]
    assert compared["batch"].tolist()[:3] == ["8", "8", "–"]
    assert compared["target"].tolist()[:2] == ["≤ 2.3", "≥ 4"]


def test_training_has_to_meet_its_targets_on_every_machine() -> None:
    assert set(compare_with_targets([], TRAINING_TARGETS)["verdict"]) == {"not run"}
    good, bad = training(device="cpu", of_bare=0.97), training(device="cpu", of_bare=0.89, read=99.0, img_size=96)
    assert compare_with_targets([good], TRAINING_TARGETS)["verdict"].tolist() == [
        "met",
        "met",
        "not run",
        "not run",
        "not run",
    ]
    compared = compare_with_targets([bad, good], TRAINING_TARGETS)
    assert compared["measured"].tolist()[:2] == ["0.890", "0.990"]
    assert compared["verdict"].tolist() == ["missed", "missed", "not run", "not run", "not run"]
    assert compared["target"].tolist() == ["≥ 0.9", "≥ 1", "≥ 0.9", "≥ 1", "≥ 0.4"]


def test_the_rate_of_a_gpu_counts_only_for_the_model_of_the_paper() -> None:
    slow = training(device="cuda", of_bare=0.95, read=500.0, row={"of_matmul_rate": 0.3})
    other = training(device="cuda", of_bare=0.95, row={"of_matmul_rate": 0.9}, model="swin_tiny")
    full = training(device="cuda", of_bare=0.95, row={"of_matmul_rate": 0.9, "precision": "32-true"})
    assert compare_with_targets([slow, other, full], TRAINING_TARGETS)["measured"].iloc[-1] == "0.300"
    fast = training(device="cuda", of_bare=0.95, row={"of_matmul_rate": 0.45})
    compared = compare_with_targets([slow, fast], TRAINING_TARGETS)
    assert compared["verdict"].tolist() == ["not run", "not run", "met", "met", "met"]
    assert compared["measured"].tolist()[2:] == ["0.950", "1.00", "0.450"]


def test_a_table_of_training() -> None:
    table = record_table(training(device="cpu", of_bare=0.97)["rows"])
    assert list(table.columns) == [
        "device", "precision", "variant", "batch", "images/s", "share of bare steps", "peak memory, MB"
    ]  # fmt: skip
    assert table["variant"].tolist() == ["default", "float32", "not run"]
    assert table["share of bare steps"].tolist() == ["0.970", "0.100", "–"]


def test_record_table_names_variants_and_drops_empty_columns() -> None:
    rows = [row(way="straightforward", ms_a_slice=1234.5), row(forward_passes=2.123), row(way="hgi_sam, compiled")]
    table = record_table([*rows, {"device": "cuda", "way": "not run"}])
    assert table["variant"].tolist() == ["naive", "HGI-SAM", "HGI-SAM, compiled", "not run"]
    assert list(table.columns) == ["device", "precision", "variant", "batch", "ms per slice", "forward passes"]
    assert table["ms per slice"].tolist() == ["1234", "1.00", "1.00", "–"]
    assert table["forward passes"].tolist() == ["–", "2.12", "–", "–"]


def test_a_note_states_whether_the_code_has_changed() -> None:
    assert "current map code" in record_note("x.json", record(), engine="abc")
    assert "an earlier version of the map code" in record_note("x.json", record(), engine="def")
    note = record_note("x.json", training(device="cpu", of_bare=1.0, read=1234.5), engine="abc")
    assert "current training code" in note
    assert note.endswith("2.3 million parameters; 1,234 slices/s read from disk by 2 processes")

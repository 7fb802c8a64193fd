import json
from pathlib import Path

import bench_ingest
import pytest

from data_prep.preparation import code_hash
from hgisam_book.recorded.benchmarks import INGEST_TARGETS, compare_with_targets, read_records


def test_a_tiny_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ingest, "LOADER_S", 0.1)
    monkeypatch.setattr(bench_ingest, "LOADER_BATCH", 4)
    out = tmp_path / "bench_ingest_tiny.json"
    size = ["--patients", "2", "--matrix", "64", "--image-px", "32", "--cohorts", "2", "4"]
    bench_ingest.main([*size, "--json", str(out)])
    found = json.loads(out.read_text())
    assert read_records(tmp_path, "ingest") == {out.name: found}
    assert read_records(tmp_path) == {}
    (row,) = found["rows"]
    assert found["engine"] == code_hash()
    assert found["two_apart"] > 0
    assert found["bare_slices_per_s"] > row["slices_per_s"] > 0
    assert row["of_bare"] == pytest.approx(row["slices_per_s"] / found["bare_slices_per_s"])
    assert set(found["peak_mb_by_studies"]) == {"2", "4"}
    assert 20 < row["peak_mb"] < 2000
    assert found["rsna_gb"] == pytest.approx(found["bytes_a_slice"] * 752_803 / 1e9)
    assert "not run" not in compare_with_targets([found], INGEST_TARGETS)["verdict"].tolist()
    assert "slices of 512² per core and second" in capsys.readouterr().out

import json
from pathlib import Path

import bench_maps
import pytest
import torch

from hgisam_book.recorded.benchmarks import read_records


def test_a_tiny_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench_maps_tiny.json"
    arguments = ["--model", "swin_tiny_patch4_window7_224", "--img-size", "32", "--batch", "1", "2", "--repeat", "1"]
    bench_maps.main([*arguments, "--device", "cpu", "--json", str(out)])
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert read_records(tmp_path) == {out.name: found}
    assert "| cuda | – | not run |" in text
    assert found["gpu"] == "not run"
    assert found["threads"] == torch.get_num_threads()
    assert found["devices"]["cpu"]["gigaflop"]["hgi_sam"] > 0
    assert 0 <= found["devices"]["cpu"]["mean_change_fp32_to_bf16"] < 0.1
    ways = [(row["precision"], row["way"], row["batch"]) for row in found["rows"][:-1]]
    assert ways[0] == ("fp32", "straightforward", 1)
    assert len(set(ways)) == 9
    made = [row for row in found["rows"] if row["way"] == "hgi_sam, eager"]
    assert all(row["forward_passes"] > 0 and row["times_faster"] > 0 for row in made)


def test_every_library_and_three_dimensions_have_a_row() -> None:
    rows = bench_maps.measure_libraries(64, 1)
    assert [row["library"] for row in rows] == ["timm", "torchvision", "transformers", "monai", "monai, 3-D"]
    assert all(row["forward_passes"] == row["map_ms"] / row["forward_ms"] > 0 for row in rows)

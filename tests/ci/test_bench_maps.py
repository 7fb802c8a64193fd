import json
from pathlib import Path

import bench_maps
import pytest
import torch

from hgisam.maps import hgi_sam
from tests.hgisam.swins import build


def test_a_tiny_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    arguments = ["--model", "swin_tiny_patch4_window7_224", "--img-size", "32", "--batch", "1", "2", "--repeat", "1"]
    bench_maps.main([*arguments, "--device", "cpu", "--json", str(out)])
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert "| cuda | – | not run |" in text
    assert found["gpu"] == "not run"
    assert found["threads"] == torch.get_num_threads()
    assert found["devices"]["cpu"]["gigaflop_a_slice"] > 0
    assert 0 <= found["devices"]["cpu"]["mean_change_fp32_to_bf16"] < 0.1
    ways = [(row["precision"], row["way"], row["batch"]) for row in found["rows"][:-1]]
    assert ways[0] == ("fp32", "straightforward", 1)
    assert len(set(ways)) == 9
    made = [row for row in found["rows"] if row["way"] == "hgi_sam, eager"]
    assert all(row["forward_passes"] > 0 and row["times_faster"] > 0 for row in made)


def test_the_straightforward_way_makes_the_same_map() -> None:
    for name in ("v1", "v2"):
        model, images = build(name)
        slow = torch.cat([bench_maps.straightforward(model, image[None], 1) for image in images])
        torch.testing.assert_close(hgi_sam(model, images, 1), slow, rtol=1e-3, atol=1e-4)
        assert all(p.grad is None for p in model.parameters())

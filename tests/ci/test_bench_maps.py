import json
from pathlib import Path

import bench_maps
import pytest
import torch
from torch import Tensor, nn

from hgisam.maps import METHODS
from hgisam_book.recorded.benchmarks import read_records, record_table
from tests.swins import build


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


LIBRARIES = ["timm", "torchvision", "transformers", "monai", "monai, 3-D"]


def test_every_library_and_three_dimensions_have_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the quick methods, since a hundred passes of five models take long."""
    monkeypatch.setattr(bench_maps, "LIBRARY_METHODS", {"hgi_sam": {}, "attn_lrp": {}})
    rows = bench_maps.measure_libraries(32, 1)
    ways = ["forward pass", "hgi_sam", "attn_lrp"]
    assert [(row["library"], row["way"]) for row in rows] == [(library, way) for library in LIBRARIES for way in ways]
    for row in rows:
        first = next(other for other in rows if other["library"] == row["library"])
        assert row.get("forward_passes", 1) == row["ms_a_slice"] / first["ms_a_slice"] > 0
    table = record_table(rows)
    assert list(table.columns) == ["library", "variant", "ms per slice", "forward passes", "passes to make"]
    assert table["variant"].tolist()[:3] == ["forward pass", "HGI-SAM", "AttnLRP"]
    assert table["passes to make"].tolist()[:3] == ["–", "2", "2"]


def test_channels_of_the_first_stage_are_counted_in_every_library() -> None:
    models = bench_maps.build_libraries(32)
    assert list(models) == LIBRARIES
    assert [bench_maps.least_passes(model, "score_cam") for model, *_ in models.values()] == [97, 97, 97, 97, 25]


@pytest.mark.parametrize("method", bench_maps.LIBRARY_METHODS)
def test_the_least_number_of_passes_is_that_made(method: str) -> None:
    """Images that go forward and gradients that come back, counted at the end of the first block."""
    model, images = build("v1")
    passes = []

    def count(_: nn.Module, __: object, tokens: Tensor) -> None:
        passes.append(len(tokens))
        if tokens.requires_grad:
            tokens.register_hook(lambda gradient: passes.append(len(gradient)))

    model.layers[0].blocks[0].register_forward_hook(count)
    METHODS[method](model, images[:1], 1, **bench_maps.LIBRARY_METHODS[method])
    assert sum(passes) == bench_maps.least_passes(model, method)

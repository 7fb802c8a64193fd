"""Cost of maps: arithmetic and memory with known results, and timing."""

import pytest
import torch

from hgisam.maps import hgi_sam
from hgisam_book.benchmarks import map_cost
from hgisam_book.benchmarks.map_cost import (
    count_flops,
    machine,
    measure_map_cost,
    milliseconds,
    naive_hgi_sam,
    peak_memory_mb,
)
from tests.swins import build


def test_the_naive_implementation_gives_the_same_map() -> None:
    for name in ("v1", "v2"):
        model, images = build(name)
        naive = torch.cat([naive_hgi_sam(model, image[None], 1) for image in images])
        torch.testing.assert_close(hgi_sam(model, images, 1), naive, rtol=1e-3, atol=1e-4)
        assert all(p.grad is None for p in model.parameters())


def test_flops_of_a_product_and_its_gradients() -> None:
    x, weight = torch.randn(3, 4), torch.randn(4, 5, requires_grad=True)
    forward = count_flops(lambda: x @ weight)
    assert forward == 2 * 3 * 4 * 5
    assert count_flops(lambda: (x @ weight).sum().backward()) == 2 * forward


def test_peak_counts_tensors_that_exist_at_the_same_time() -> None:
    def two_in_turn() -> None:
        for _ in range(2):
            torch.ones(1_000_000)

    def two_at_once() -> None:
        first = torch.ones(1_000_000)
        torch.ones_like(first)

    assert peak_memory_mb(two_in_turn, "cpu") == pytest.approx(4, abs=0.1)
    assert peak_memory_mb(two_at_once, "cpu") == pytest.approx(8, abs=0.1)
    assert peak_memory_mb(lambda: None, "cpu") == 0


def test_memory_grows_with_the_batch_and_not_with_the_slices() -> None:
    model, images = build("v1")
    images = images.repeat(4, 1, 1, 1)
    one, eight = (peak_memory_mb(lambda n=n: hgi_sam(model, images[:n], 1), "cpu") for n in (1, 8))
    assert eight == pytest.approx(8 * one, rel=0.05)

    def stream() -> None:
        for image in images:
            hgi_sam(model, image[None], 1)

    assert peak_memory_mb(stream, "cpu") == pytest.approx(one, rel=0.05)


def test_rounds_are_interleaved_and_the_shortest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], []
    slow = iter([9.0, 3.0, 1.0, 2.0])  # the first round warms up
    monkeypatch.setattr(map_cost.time, "perf_counter", lambda: clock[0])

    def call(name: str, seconds: float) -> None:
        calls.append(name)
        clock[0] += seconds

    found = milliseconds({"a": lambda: call("a", next(slow)), "b": lambda: call("b", 0.5)}, 3, "cpu")
    assert calls == ["a", "b"] * 4
    assert found == pytest.approx({"a": 1000, "b": 500})


def test_measure_has_every_variant_and_batch_and_leaves_the_model() -> None:
    model, images = build("v1")
    found = measure_map_cost(model, images, 1, batches=(1, 2), repeat=1, methods=("hgi_sam", "grad_cam"))
    assert found["gigaflop"]["forward pass"] < found["gigaflop"]["hgi_sam"] < found["gigaflop"]["straightforward"]
    ways = ["forward pass, eager", "hgi_sam, eager", "grad_cam, eager"]
    expected = [("fp32", way, batch) for batch in (1, 2) for way in ways]
    expected += [("bf16", way, batch) for batch in (1, 2) for way in ways]
    assert [(r["precision"], r["way"], r["batch"]) for r in found["rows"]] == [
        ("fp32", "straightforward", 1),
        *expected,
    ]
    maps = [row for row in found["rows"] if "forward_passes" in row]
    assert all(row["peak_mb"] > 0 and row["times_faster"] > 0 for row in maps)
    assert len(maps) == 8
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_machine_names_hardware_and_code_but_no_host() -> None:
    about = machine("cpu")
    assert about["gpu"] == "not run"
    assert len(about["engine"]) == 64
    assert set(about) == {"cpu", "cores", "threads", "gpu", "torch", "timm", "engine"}

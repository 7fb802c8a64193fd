"""Cost of maps: time, arithmetic and memory, relative to a forward pass and to a naive implementation.

The naive implementation uses a batch size of 1, float32, hooks on every softmax, and a backward pass that also computes
the gradients of all parameters. In the records it is called "straightforward".
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hgisam.attention import BlockGeometry, find_swin
from hgisam.maps import METHODS, hgi_sam
from hgisam.maps.combine import attention_received, combine, to_token_grid
from hgisam.maps.hgi_sam import head_weights, weighted_attention
from hgisam.runs.manifest import environment
from hgisam.runs.sources import hash_of, sources_of

Call = Callable[[], object]
Variant = tuple[str, str, int]  # precision, way, batch size
K = TypeVar("K")
T = TypeVar("T")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def naive_hgi_sam(model: nn.Module, image: Tensor, target: int) -> Tensor:
    """Naive HGI-SAM with gradients at the attention scores, for Swin v1 and v2: [1, C, H, W] → [1, H, W]."""
    swin, handles = find_swin(model), []
    attention: dict[BlockGeometry, Tensor] = {}
    gradient: dict[BlockGeometry, Tensor] = {}
    for stage, number in swin.block_indices((0, 1, 2)):
        block = swin.stages[stage][number]
        place = swin.geometry(stage, number, block.input_resolution, tuple(image.shape[2:]))
        softmax = block.attn.softmax
        handles += [
            softmax.register_forward_hook(lambda _, __, out, place=place: attention.update({place: out.detach()})),
            softmax.register_full_backward_hook(lambda _, given, __, place=place: gradient.update({place: given[0]})),
        ]
    model(image)[0, target].backward()
    for handle in handles:
        handle.remove()
    grids = {}
    for place, weights in attention.items():
        infused = attention_received(weighted_attention(weights, head_weights(gradient[place])))
        grids[place] = to_token_grid(infused, place)
    model.zero_grad(set_to_none=True)
    return combine(grids, image.shape[2:], None)


def milliseconds(calls: Mapping[K, Call], repeat: int, device: str) -> dict[K, float]:
    """Shortest time of each call in milliseconds, over `repeat` rounds after a warm-up round.

    Each round runs every call once. Other load on the machine only adds time. The minimum excludes it, and interleaved
    rounds spread it over all calls.
    """
    taken: dict[K, list[float]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: min(times[1:]) for name, times in taken.items()}


def matmul_rate(repeat: int) -> float:
    """Floating-point operations per second of the GPU in a large bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / (milliseconds({"product": lambda: a @ b}, 10 * repeat, "cuda")["product"] / 1000)


def count_flops(call: Call) -> int:
    """Floating-point operations in the matrix products of a call, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def peak_memory_mb(call: Call, device: str) -> float:
    """Peak memory in MB of the tensors allocated during a call, without memory allocated before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences the profiler's warning about a missing GPU
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events: Any = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    peak: int = max(accumulate((change for _, change in changes), initial=0))
    return peak / 1e6


def compile_parts(model: nn.Module) -> None:
    """Compile the modules without hooks in place: norms, MLPs and patch merging."""
    swin = find_swin(model)
    for module in swin.module.modules():
        if type(module).__name__ in {"Mlp", "LayerNorm", "PatchMerging"}:
            module.compile(dynamic=False)


def measure_map_cost(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    batches: Sequence[int],
    repeat: int,
    methods: Sequence[str] = ("hgi_sam",),
) -> dict[str, Any]:
    """Measure the cost of maps of a model on its device.

    Args:
        model: A timm Swin of version 1 or 2, or a model that contains one, in evaluation mode. On a GPU, parts of it
            are compiled.
        images: [B, C, H, W] with B at least the largest batch size.
        target: Class whose logit the maps explain.
        batches: Batch sizes to measure.
        repeat: Number of timed rounds; the shortest counts.
        methods: Names in `METHODS`.

    Returns:
        rows: device, precision, way, batch and ms_a_slice (ms per slice) of each measurement; for maps also
        forward_passes, times_faster (speed-up over the naive implementation) and peak_mb, and on a GPU of_matmul_rate.
        gigaflop: way → GFLOP of the matrix products per slice. mean_change_fp32_to_bf16: mean absolute difference
        between the fp32 and the bf16 map of the first method.
    """
    device, one = images.device.type, images[:1]
    naive = partial(naive_hgi_sam, model, one, target)
    counted = {"forward pass": partial(_forward, model, one), "straightforward": naive}
    counted["hgi_sam"] = partial(hgi_sam, model, one, target)
    gigaflop = {way: count_flops(call) / 1e9 for way, call in counted.items()}
    rate = matmul_rate(repeat) if device == "cuda" else None
    rows: list[dict[str, Any]] = []
    for mode in ("eager", "compiled") if device == "cuda" else ("eager",):
        if mode == "compiled":
            compile_parts(model)
        baseline: dict[Variant, Call] = {("fp32", "straightforward", 1): naive} if mode == "eager" else {}
        rows += _rows(baseline | _calls(model, images, target, batches, methods), mode, repeat, device)
    for row in rows:
        if "forward_passes" in row:
            row["times_faster"] = rows[0]["ms_a_slice"] / row["ms_a_slice"]
        if rate and row["way"].startswith("hgi_sam"):
            row["of_matmul_rate"] = gigaflop["hgi_sam"] * 1e9 / (row["ms_a_slice"] / 1000) / rate
    first = partial(METHODS[methods[0]], model, images[: max(batches)], target)
    maps = [_in_precision(name, device, first) for name in DTYPES]
    return {"rows": rows, "gigaflop": gigaflop, "mean_change_fp32_to_bf16": float((maps[0] - maps[1]).abs().mean())}


def _calls(
    model: nn.Module, images: Tensor, target: int, batches: Sequence[int], methods: Sequence[str]
) -> dict[Variant, Call]:
    """A forward pass and a map of each method, for every precision and batch size.

    Each call enters autocast itself, so that the forward pass also includes the cost of casting the weights.
    """
    device = images.device.type
    calls: dict[Variant, Call] = {}
    for precision in DTYPES:
        for batch in batches:
            given = images[:batch]
            ways = {"forward pass": partial(_forward, model, given)}
            ways |= {name: partial(METHODS[name], model, given, target) for name in methods}
            calls |= {(precision, way, batch): partial(_in_precision, precision, device, c) for way, c in ways.items()}
    return calls


def _rows(calls: Mapping[Variant, Call], mode: str, repeat: int, device: str) -> list[dict[str, Any]]:
    """Time and memory of each call; for maps also the time in forward passes."""
    times = {key: time_ms / key[2] for key, time_ms in milliseconds(calls, repeat, device).items()}
    rows = []
    for (precision, way, batch), ms in times.items():
        named = way if way == "straightforward" else f"{way}, {mode}"
        row = {"device": device, "precision": precision, "way": named, "batch": batch, "ms_a_slice": ms}
        if way not in ("straightforward", "forward pass"):
            row["forward_passes"] = ms / times[precision, "forward pass", batch]
        if way != "forward pass":
            row["peak_mb"] = peak_memory_mb(calls[precision, way, batch], device)
        rows.append(row)
    return rows


def _in_precision(name: str, device: str, call: Callable[[], T]) -> T:
    with torch.autocast(device, dtype=DTYPES[name], enabled=name != "fp32"):
        return call()


def _forward(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(images)
    return logits


ENGINES = {"maps": "hgisam.maps", "train": "hgisam.training.loop"}  # measured code, with all that it imports of ours


def machine(device: str, work: str = "maps") -> dict[str, Any]:
    """Hardware, software and code hash (`engine`) of a measurement, without the name of the machine.

    Args:
        device: "cpu" or "cuda".
        work: "maps" or "train".
    """
    about = environment()
    hardware, packages = about["hardware"], about["packages"]
    engine = sources_of(f"import {ENGINES[work]}")
    return {
        "cpu": hardware["processor"],
        "cores": hardware["cores"],
        "threads": torch.get_num_threads(),
        "gpu": ", ".join(hardware["gpu"]) if device == "cuda" else "not run",
        "torch": packages["torch"],
        "timm": packages["timm"],
        "engine": hash_of(engine),
    }

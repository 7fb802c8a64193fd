"""Measure: what a map costs, in milliseconds a slice, in forward passes, and against the straightforward way.

python ci/bench_maps.py --batch 1 8 --json bench_maps.json

The straightforward way is what one copies from a forum: a batch of 1, float32, hooks on every softmax, and a backward
pass that computes the gradients of all parameters too. Weights are random: they change no time.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hgisam.maps import hgi_sam
from hgisam.maps.combine import attention_received, combine, to_token_grid
from hgisam.maps.hgi_sam import head_weights, weighted_attention
from hgisam.swin import Block, block_of, find_swin, numbers_of, pair, place_of

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
COLUMNS = ("device", "precision", "way", "batch", "ms_a_slice", "forward_passes", "times_faster", "of_matmul_rate")


def straightforward(model: nn.Module, image: Tensor, target: int) -> Tensor:
    """HGI-SAM with the gradient at scores, the slow way: [1, C, H, W] → [1, H, W]."""
    swin, handles = find_swin(model), []
    attention: dict[Block, Tensor] = {}
    gradient: dict[Block, Tensor] = {}
    for stage, number in numbers_of(swin, (0, 1, 2)):
        block = block_of(swin, stage, number)
        place = place_of(swin, stage, number, pair(block.input_resolution), pair(image.shape[2:]))
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
    return combine(grids, pair(image.shape[2:]), None)


def milliseconds(call: Callable[[], object], repeat: int, device: str) -> float:
    """Median of `repeat` calls, after one that warms up."""
    taken = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def matmul_rate(repeat: int) -> float:
    """Floating-point operations a second of the card in a large bf16 matrix product."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / (milliseconds(lambda: a @ b, 10 * repeat, "cuda") / 1000)


def operations(model: nn.Module, images: Tensor) -> int:
    """Floating-point operations of the matrix products of one map, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        hgi_sam(model, images[:1], 1)
    return int(counter.get_total_flops())


def compile_parts(model: nn.Module) -> None:
    """Compiles, in place, what carries no hook: norms, MLPs and patch merging."""
    swin = find_swin(model)
    for module in swin.modules():
        if type(module).__name__ in {"Mlp", "LayerNorm", "PatchMerging"}:
            module.compile(dynamic=False)


def measure(name: str, img_size: int, batches: Sequence[int], repeat: int, device: str) -> dict[str, Any]:
    """All rows of one device, and the mean change of the map from fp32 to bf16."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, img_size=img_size, num_classes=2).eval().to(device)
    images = torch.randn(max(batches), 3, img_size, img_size, device=device)
    slow = milliseconds(lambda: straightforward(model, images[:1], 1), repeat, device)
    rows: list[dict[str, Any]] = [
        {"device": device, "precision": "fp32", "way": "straightforward", "batch": 1, "ms_a_slice": slow}
    ]
    flops = operations(model, images)
    rate = matmul_rate(repeat) if device == "cuda" else None
    maps = {}
    for way in ("eager", "compiled") if device == "cuda" else ("eager",):
        if way == "compiled":
            compile_parts(model)
        for precision, dtype in DTYPES.items():
            for batch in batches:
                with torch.autocast(device, dtype=dtype, enabled=dtype is not torch.float32):
                    given = images[:batch]
                    forward = milliseconds(lambda x=given: _forward(model, x), repeat, device) / batch
                    map_ = milliseconds(lambda x=given: hgi_sam(model, x, 1), repeat, device) / batch
                    maps[precision] = hgi_sam(model, images[: min(batches)], 1)
                shared = {"device": device, "precision": precision, "batch": batch}
                rows.append(shared | {"way": f"forward pass, {way}", "ms_a_slice": forward})
                ratios = {"forward_passes": map_ / forward, "times_faster": slow / map_}
                made = {"way": f"hgi_sam, {way}", "ms_a_slice": map_, **ratios}
                rows.append(shared | made | ({"of_matmul_rate": flops / map_ * 1000 / rate} if rate else {}))
    change = float((maps["fp32"] - maps["bf16"]).abs().mean())
    return {"rows": rows, "gigaflop_a_slice": flops / 1e9, "mean_change_fp32_to_bf16": change}


def _forward(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        model(images)


def hardware(device: str) -> dict[str, Any]:
    """What it was measured on, without naming the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if device == "cuda" else "not run"
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "timm": timm.__version__,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table; a dash where a figure has no meaning."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(c, "–")) for c in COLUMNS) + " |" for row in rows])


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the CPU, and the GPU where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="swin_base_patch4_window12_384", help="a timm Swin, v1 or v2")
    parser.add_argument("--img-size", type=int, default=384)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5, help="timed calls; the median counts")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CPU, and GPU if any")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(arguments)
    gpu = torch.cuda.is_available() and given.device != "cpu"
    devices = [*(["cpu"] if given.device != "cuda" else []), *(["cuda"] if gpu else [])]
    found = {device: measure(given.model, given.img_size, given.batch, given.repeat, device) for device in devices}
    rows = [row for result in found.values() for row in result["rows"]]
    if not gpu:
        rows.append({"device": "cuda", "way": "not run"})
    about = hardware("cuda" if gpu else "cpu") | {"model": given.model, "img_size": given.img_size}
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    print(table(rows))
    for device, result in found.items():
        print(f"{device}: mean change of the map from fp32 to bf16 {result['mean_change_fp32_to_bf16']:.1e}")
    if given.json:
        about["devices"] = {
            device: {k: v for k, v in result.items() if k != "rows"} for device, result in found.items()
        }
        given.json.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

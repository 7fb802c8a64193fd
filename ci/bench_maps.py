"""Benchmark of maps: ms per slice, cost in forward passes, and speed-up over a naive implementation.

python ci/bench_maps.py --batch 1 8 --json book/recorded/bench_maps_NAME.json

Weights are random, because they do not affect the time. The chapter on performance shows the records in book/recorded/.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from hgisam_book.benchmarks.map_cost import machine, measure_map_cost
from hgisam_book.recorded.benchmarks import record_table


def measure_architecture(name: str, img_size: int, batches: Sequence[int], repeat: int, device: str) -> dict[str, Any]:
    """Measure a timm model with random weights on random images."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, img_size=img_size, num_classes=2).eval().to(device)
    images = torch.randn(max(batches), 3, img_size, img_size, device=device)
    return measure_map_cost(model, images, 1, batches=batches, repeat=repeat)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the CPU, and the GPU if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="swin_base_patch4_window12_384", help="a timm Swin, v1 or v2")
    parser.add_argument("--img-size", type=int, default=384)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5, help="timed rounds; the shortest counts")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CPU, and GPU if any")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    gpu = torch.cuda.is_available() and options.device != "cpu"
    devices = [*(["cpu"] if options.device != "cuda" else []), *(["cuda"] if gpu else [])]
    found = {
        d: measure_architecture(options.model, options.img_size, options.batch, options.repeat, d) for d in devices
    }
    rows = [row for result in found.values() for row in result.pop("rows")]
    if not gpu:
        rows.append({"device": "cuda", "way": "not run"})
    about = machine("cuda" if gpu else "cpu") | {"model": options.model, "img_size": options.img_size}
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n")
    table = record_table(rows)
    print(*(f"| {' | '.join(cells)} |" for cells in [table.columns, ["---"] * table.shape[1], *table.values]), sep="\n")
    for device, result in found.items():
        print(f"{device}: mean absolute difference of fp32 and bf16 maps {result['mean_change_fp32_to_bf16']:.1e}")
    if options.json:
        record = about | {"repeat": options.repeat, "devices": found, "rows": rows}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

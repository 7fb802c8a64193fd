"""Benchmark of maps: ms per slice, cost in forward passes, and speed-up over a naive implementation.

python ci/bench_maps.py --batch 1 8 --json book/recorded/bench_maps_NAME.json

With --libraries also a Swin-T of each library, and a small Swin in three dimensions, each with methods from two to a
hundred passes, beside the passes that it has to make at least. Weights are random, because they do not affect the
time. The chapter on performance shows the records in book/recorded/.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from monai.networks.nets.swin_unetr import SwinTransformer as MonaiSwin
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin
from transformers import SwinConfig, SwinForImageClassification

from hgisam.adapters.protocol import find_adapter
from hgisam.attention.swin import Logit
from hgisam.maps import METHODS
from hgisam_book.benchmarks.map_cost import machine, measure_map_cost, milliseconds
from hgisam_book.recorded.benchmarks import record_table

LIBRARY_METHODS: dict[str, dict[str, Any]] = {  # method → options; the first stage has the fewest channels
    "hgi_sam": {}, "hgi_sam_averaged": {}, "attn_lrp": {}, "integrated_gradients": {"steps": 32},
    "ablation_cam": {"stage": 0}, "score_cam": {"stage": 0},
}  # fmt: skip
LIBRARY_PX = 224  # what Swin-T was made for
SLOW_PASSES = 50  # methods with more are timed once, after a warm-up: one call of them averages over many passes


def measure_architecture(name: str, img_size: int, batches: Sequence[int], repeat: int, device: str) -> dict[str, Any]:
    """Measure a timm model with random weights on random images."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, img_size=img_size, num_classes=2).eval().to(device)
    images = torch.randn(max(batches), 3, img_size, img_size, device=device)
    return measure_map_cost(model, images, 1, batches=batches, repeat=repeat)


def build_libraries(px: int) -> dict[str, tuple[nn.Module, Tensor, Logit | None]]:
    """Swin-T of each library for `px` pixels, a small Swin in three dimensions, and inputs; random weights."""
    window, sizes = px // 32, (96, (2, 2, 6, 2), (3, 6, 12, 24))
    image, side = torch.randn(1, 3, px, px), 32 * max(1, px // 112)
    config = SwinConfig(image_size=px, window_size=window, num_labels=2)

    def pool(features: Any) -> Tensor:
        pooled: Tensor = features[-1].flatten(2).mean(dim=2)
        return pooled

    def monai_swin(channels: int, dim: int, width: int, patch: int, axes: int) -> nn.Module:
        windows, patches = (width,) * axes, (patch,) * axes
        return MonaiSwin(channels, dim, windows, patches, *sizes[1:], spatial_dims=axes)

    return {
        "timm": (timm.create_model("swin_tiny_patch4_window7_224", img_size=px, window_size=window), image, None),
        "torchvision": (TorchvisionSwin([4, 4], *map(_listed, sizes), [window, window]), image, None),
        "transformers": (SwinForImageClassification(config), image, None),
        "monai": (monai_swin(3, 96, window, 4, axes=2), image, pool),
        "monai, 3-D": (monai_swin(1, 24, 4, 2, axes=3), torch.randn(1, 1, side, side, side), pool),
    }


def least_passes(model: nn.Module, method: str) -> int:
    """Forward and backward passes, counted alike, that a map of one image has to make with `LIBRARY_METHODS`."""
    if method in ("ablation_cam", "score_cam"):
        return 1 + int(find_adapter(model).convolution.out_channels)
    return {"hgi_sam": 2, "hgi_sam_averaged": 16, "attn_lrp": 2, "integrated_gradients": 64}[method]


def measure_libraries(px: int, repeat: int) -> list[dict[str, Any]]:
    """Maps of one image on the CPU in fp32: ms, the same in forward passes of its model, and the least of passes."""
    models = build_libraries(px)
    calls: dict[tuple[str, str], Any] = {}
    for library, (model, images, logit) in models.items():
        model.eval()
        calls[library, "forward pass"] = torch.no_grad()(partial(model, images))
        for way, options in LIBRARY_METHODS.items():
            calls[library, way] = partial(METHODS[way], model, images, 1, logit=logit, **options)
    slow = {key for key in calls if key[1] in LIBRARY_METHODS and least_passes(models[key[0]][0], key[1]) > SLOW_PASSES}
    taken = milliseconds({key: call for key, call in calls.items() if key not in slow}, repeat, "cpu")
    taken |= milliseconds({key: calls[key] for key in slow}, 1, "cpu")
    rows = []
    for library, way in calls:
        ms = taken[library, way]
        row: dict[str, Any] = {"library": library, "way": way, "ms_a_slice": ms}
        if way in LIBRARY_METHODS:
            row["forward_passes"] = ms / taken[library, "forward pass"]
            row["least_passes"] = least_passes(models[library][0], way)
        rows.append(row)
    return rows


def _listed(size: Any) -> Any:
    return list(size) if isinstance(size, tuple) else size


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the CPU, and the GPU if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="swin_base_patch4_window12_384", help="a timm Swin, v1 or v2")
    parser.add_argument("--img-size", type=int, default=384)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5, help="timed rounds; the shortest counts")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CPU, and GPU if any")
    parser.add_argument("--libraries", action="store_true", help="also a Swin-T of each library, on the CPU")
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
    libraries = measure_libraries(LIBRARY_PX, options.repeat) if options.libraries else []
    for table in map(record_table, filter(None, (rows, libraries))):
        lines = [table.columns, ["---"] * table.shape[1], *table.values]
        print(*(f"| {' | '.join(cells)} |" for cells in lines), sep="\n", end="\n\n")
    for device, result in found.items():
        print(f"{device}: mean absolute difference of fp32 and bf16 maps {result['mean_change_fp32_to_bf16']:.1e}")
    if options.json:
        record = about | {"repeat": options.repeat, "devices": found, "rows": rows}
        record |= {"libraries": libraries} if libraries else {}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

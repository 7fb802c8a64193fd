"""Swins with a few thousand parameters, in every window geometry that timm supports."""

from functools import partial
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from torch import Tensor, nn

from hgisam.maps import METHODS

SMALL = {"patch_size": 2, "embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "num_classes": 3}
V1, V2, CR = SwinTransformer, SwinTransformerV2, SwinTransformerV2Cr
# class, options that differ from SMALL, image size
GEOMETRIES: dict[str, tuple[Any, dict[str, Any], tuple[int, int]]] = {
    "v1": (V1, {"img_size": 32, "window_size": 2}, (32, 32)),
    "v1 rectangular": (V1, {"img_size": (32, 48), "window_size": 4}, (32, 48)),
    "v1 rectangular windows": (V1, {"img_size": (24, 48), "window_size": (2, 4)}, (24, 48)),
    "v1 padded": (V1, {"img_size": 36, "window_size": 4}, (36, 36)),
    "v1 padded rectangular": (V1, {"img_size": (28, 44), "window_size": 4}, (28, 44)),
    "v1 always partition": (V1, {"img_size": 24, "window_size": 4, "always_partition": True}, (24, 24)),
    "v1 any size": (V1, {"img_size": 32, "window_size": 4, "strict_img_size": False}, (40, 28)),
    "v1 odd depth": (V1, {"img_size": 32, "window_size": 4, "depths": (3, 1, 2, 1)}, (32, 32)),
    "v2": (V2, {"img_size": 32, "window_size": 2}, (32, 32)),
    "v2 padded rectangular": (V2, {"img_size": (28, 44), "window_size": 4}, (28, 44)),
    "v2 any size": (V2, {"img_size": 32, "window_size": 4, "strict_img_size": False}, (40, 28)),
    "v2-cr": (CR, {"img_size": 32, "window_size": 2, "init_values": 1.0}, (32, 32)),
    "v2-cr padded": (CR, {"img_size": (28, 44), "window_size": 4, "init_values": 1.0}, (28, 44)),
}
# every method, the slow ones with few passes: 16 channels of the first stage, and a short path
FEWER: dict[str, dict[str, Any]] = {
    "ablation_cam": {"stage": 0}, "score_cam": {"stage": 0}, "integrated_gradients": {"steps": 3},
}  # fmt: skip
QUICK = {name: partial(method, **FEWER.get(name, {})) for name, method in METHODS.items()}
ONE_OF_EACH = ("v1", "v2", "v2-cr")
FLAGS = ("training", "fused_attn", "grad_checkpointing")  # what recording sets in a timm model, and sets back


def build(name: str) -> tuple[Any, Tensor]:
    """A model in evaluation mode with large random weights, and two images for it."""
    kind, options, size = GEOMETRIES[name]
    torch.manual_seed(0)
    model = kind(**SMALL | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):  # version 2 initializes some with 0: attention would have no effect
                module.weight.uniform_(0.5, 1.5)
    return model, torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def blocks(model: Any) -> list[tuple[int, int, Any]]:
    """(stage, index, block) of every block, in forward order."""
    stages = model.stages if isinstance(model, CR) else model.layers
    return [(s, b, block) for s, stage in enumerate(stages) for b, block in enumerate(stage.blocks)]

"""Small Swins of every library, and the same weights in several of them."""

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.nets.swin_unetr import SwinTransformer as MonaiSwinTransformer
from monai.networks.nets.swin_unetr import SwinUNETR
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwinTransformer
from transformers import SwinConfig, SwinForImageClassification, Swinv2Config, Swinv2ForImageClassification

DEPTHS, HEADS, CHANNELS, CLASSES = (2, 2, 2, 2), (1, 2, 2, 4), 16, 3


def randomized(model: nn.Module, seed: int = 0) -> Any:
    """The model in evaluation mode, with large random weights, so that attention is far from uniform."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
            if isinstance(module, nn.LayerNorm | nn.Linear) and module.bias is not None:
                module.bias.normal_(std=0.1)
    return model.eval()


def images(*size: int, channels: int = 3, batch: int = 2) -> Tensor:
    """Standard normal noise, the same each time."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


def timm_swin(window: int = 4, size: int = 64, version: int = 1) -> Any:
    kind = SwinTransformer if version == 1 else SwinTransformerV2
    return randomized(
        kind(img_size=size, patch_size=2, embed_dim=CHANNELS, depths=DEPTHS, num_heads=HEADS, num_classes=CLASSES,
             window_size=window)
    )  # fmt: skip


def torchvision_swin(window: int = 4, version: int = 1) -> Any:
    later: dict[str, Any] = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return randomized(
        TorchvisionSwinTransformer([2, 2], CHANNELS, list(DEPTHS), list(HEADS), [window, window], num_classes=CLASSES,
                                   **(later if version == 2 else {}))
    )  # fmt: skip


def transformers_swin(window: int = 4, size: int = 64, version: int = 1, attention: str = "sdpa") -> Any:
    config, kind = (
        (SwinConfig, SwinForImageClassification) if version == 1 else (Swinv2Config, Swinv2ForImageClassification)
    )
    options = {"attn_implementation": attention} if version == 1 else {}
    return randomized(
        kind(config(image_size=size, patch_size=2, embed_dim=CHANNELS, depths=list(DEPTHS), num_heads=list(HEADS),
                    window_size=window, num_labels=CLASSES, **options))
    )  # fmt: skip


class PooledHead(nn.Module):
    """A classifier as users of MONAI build it: the last features, a norm, their mean, a linear layer."""

    def __init__(self, swin: nn.Module, features: int) -> None:
        super().__init__()
        self.swin, self.norm, self.head = swin, nn.LayerNorm(features), nn.Linear(features, CLASSES)

    def forward(self, volumes: Tensor) -> Tensor:
        tokens = self.swin(volumes)[-1].flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.norm(tokens).mean(dim=1))
        return logits


def monai_swin(axes: int = 3, window: int | tuple[int, ...] = 2, patch: int | tuple[int, ...] = 2) -> Any:
    sizes = [(each,) * axes if isinstance(each, int) else each for each in (window, patch)]
    swin = MonaiSwinTransformer(1, 12, sizes[0], sizes[1], DEPTHS, (1, 2, 2, 4), spatial_dims=axes)
    return randomized(PooledHead(swin, 12 * 16))


def swin_unetr(axes: int = 3, **options: Any) -> Any:
    return randomized(
        SwinUNETR(1, 2, feature_size=12, depths=DEPTHS, num_heads=HEADS, window_size=2, spatial_dims=axes, **options)
    )


def mean_logit(output: Tensor) -> Tensor:
    """Logits [B, classes] of a segmentation [B, classes, *size]: their mean over the image."""
    return output.flatten(2).mean(dim=2)


# name → model, images, logit=
LIBRARIES: dict[str, tuple[Callable[[], Any], tuple[int, ...], Callable[[Any], Tensor] | None]] = {
    "timm": (timm_swin, (3, 64, 64), None),
    "torchvision": (torchvision_swin, (3, 64, 64), None),
    "torchvision padded": (torchvision_swin, (3, 52, 44), None),
    "torchvision v2": (lambda: torchvision_swin(version=2), (3, 64, 64), None),
    "transformers": (transformers_swin, (3, 64, 64), None),
    "transformers padded": (transformers_swin, (3, 59, 52), None),
    "transformers v2": (lambda: transformers_swin(version=2), (3, 64, 64), None),
    "MONAI 2-D": (lambda: monai_swin(2), (1, 32, 48), None),
    "MONAI 3-D": (monai_swin, (1, 32, 32, 32), None),
    "MONAI 3-D padded": (lambda: monai_swin(window=(2, 4, 3)), (1, 16, 36, 40), None),
    "SwinUNETR 2-D": (lambda: swin_unetr(2), (1, 64, 64), mean_logit),
    "SwinUNETR 3-D": (swin_unetr, (1, 32, 32, 64), mean_logit),
}


def build(name: str) -> tuple[Any, Tensor, Callable[[Any], Tensor] | None]:
    """A model, two images and its `logit=`."""
    make, (channels, *size), logit = LIBRARIES[name]
    return make(), images(*size, channels=channels), logit


def to_torchvision(weights: dict[str, Tensor], version: int = 1) -> dict[str, Tensor]:
    """State dict of timm's Swin → torchvision's."""
    converted: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith(("q_bias", "k_bias", "v_bias", "attn_mask", "relative_coords_table")):
            continue
        new = key.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
        if new.startswith("layers."):
            stage, rest = int(new.split(".")[1]), new.split(".", 2)[2]
            new = f"features.{2 * stage}.{rest[len('downsample.') :]}" if rest.startswith("downsample.") else (
                f"features.{2 * stage + 1}.{rest[len('blocks.') :]}"
            )  # fmt: skip
        new = new.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3").replace("head.fc", "head")
        converted[new] = value
    if version == 2:  # keys have no bias
        for key in [key for key in weights if key.endswith("attn.q_bias")]:
            q, v = weights[key], weights[key.replace("q_bias", "v_bias")]
            _, stage, _, block, *_ = key.split(".")
            converted[f"features.{2 * int(stage) + 1}.{block}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return converted


def to_transformers(weights: dict[str, Tensor], version: int = 1) -> dict[str, Tensor]:
    """State dict of timm's Swin → Hugging Face's."""
    prefix, inner = ("swin", "attention") if version == 1 else ("swinv2", "attention.self")
    names = ("q_proj", "k_proj", "v_proj") if version == 1 else ("query", "key", "value")
    renamed = {
        "patch_embed.proj": f"{prefix}.embeddings.patch_embeddings.projection",
        "patch_embed.norm": f"{prefix}.embeddings.norm",
        "head.fc": "classifier",
    }
    inside = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj" if version == 1 else "attention.output.dense",
        "attn.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
        "attn.cpb_mlp": "attention.self.continuous_position_bias_mlp",
        "attn.logit_scale": "attention.self.logit_scale",
        "mlp.fc1": "mlp.fc1" if version == 1 else "intermediate.dense",
        "mlp.fc2": "mlp.fc2" if version == 1 else "output.dense",
    }
    converted: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith(("relative_position_index", "attn_mask", "relative_coords_table", "k_bias")):
            continue
        if key.startswith("norm."):
            converted[key.replace("norm.", f"{prefix}.layernorm.")] = value
            continue
        if not key.startswith("layers."):
            old = next(name for name in renamed if key.startswith(name))
            converted[key.replace(old, renamed[old])] = value
            continue
        stage, rest = int(key.split(".")[1]), key.split(".", 2)[2]
        if rest.startswith("downsample."):  # before a stage in timm, after the one before it there
            converted[f"{prefix}.encoder.layers.{stage - 1}.{rest}"] = value
            continue
        _, block, rest = rest.split(".", 2)
        at = f"{prefix}.encoder.layers.{stage}.blocks.{block}"
        if rest.startswith("attn.qkv."):
            for name, part in zip(names, value.chunk(3), strict=True):
                converted[f"{at}.{inner}.{name}.{rest.removeprefix('attn.qkv.')}"] = part
        elif rest in ("attn.q_bias", "attn.v_bias"):
            converted[f"{at}.{inner}.{'query' if rest == 'attn.q_bias' else 'value'}.bias"] = value
        else:
            old = next(name for name in inside if rest.startswith(name))
            converted[f"{at}.{rest.replace(old, inside[old])}"] = value
    return converted


def in_depth(weights: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """State dict of a 2-D MONAI Swin → that of a 3-D one that sees no difference between equal slices.

    Its windows hold `depth` slices, its patches one.
    """
    quadrants = [0, 0, 1, 2, 1, 2, 3, 3]  # of the octants 000, 100, 010, 001, 110, 101, 011, 111 (slice, row, col)
    converted = {}
    for key, value in weights.items():
        if key.endswith("relative_position_index"):
            continue
        if key.endswith("patch_embed.proj.weight"):
            value = value[:, :, None]
        elif key.endswith("relative_position_bias_table"):
            value = value.repeat(2 * depth - 1, 1)
        elif ".downsample." in key:
            value = torch.cat([value.chunk(4, dim=-1)[q] for q in quadrants], dim=-1)
            value = value / 2 if "reduction" in key else value
        converted[key] = value
    return converted

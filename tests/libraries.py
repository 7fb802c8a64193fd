"""The same small Swin in several libraries: real conversions of state dicts from timm to each of them."""

import re
from typing import Any

import torch
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinTransformer, SwinUNETR
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2 as TorchvisionMergingV2
from torchvision.models.swin_transformer import SwinTransformer as TorchvisionSwin
from torchvision.models.swin_transformer import SwinTransformerBlockV2
from transformers import SwinConfig, SwinForImageClassification, Swinv2Config, Swinv2ForImageClassification

from tests.swins import build

State = dict[str, Tensor]


def torchvision_swin(name: str, window: int) -> TorchvisionSwin:
    """A Swin of torchvision as `SMALL` is in timm: "v1" or "v2"."""
    options: dict[str, Any] = {"patch_size": [2, 2], "embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4]}
    if name == "v2":
        options |= {"block": SwinTransformerBlockV2, "downsample_layer": TorchvisionMergingV2}
    return TorchvisionSwin(**options, window_size=[window, window], num_classes=3).eval()


def transformers_swin(name: str, px: int, window: int, **options: Any) -> Any:
    """A classifier of transformers as `SMALL` is in timm: "v1" or "v2"."""
    config, classifier = {
        "v1": (SwinConfig, SwinForImageClassification), "v2": (Swinv2Config, Swinv2ForImageClassification),
    }[name]  # fmt: skip
    sizes = {"image_size": px, "patch_size": 2, "embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4]}
    return classifier(config(**sizes, window_size=window, num_labels=3, **options)).eval()


def renamed(state: State, names: dict[str, str]) -> State:
    """A state dict with each pattern in its keys replaced, in order."""
    found = {}
    for key, value in state.items():
        for pattern, to in names.items():
            key = re.sub(pattern, to, key)
        found[key] = value
    return found


def to_torchvision(model: nn.Module) -> State:
    """Weights of a timm Swin for torchvision: stages and mergings alternate, and timm merges before a stage."""
    names = {
        r"^patch_embed\.proj": "features.0.0", r"^patch_embed\.norm": "features.0.2", r"\.mlp\.fc1": ".mlp.0",
        r"\.mlp\.fc2": ".mlp.3", r"^head\.fc": "head",
    }  # fmt: skip
    found = {}
    for key, value in renamed(dict(model.state_dict()), names).items():
        if match := re.match(r"layers\.(\d)\.(blocks|downsample)\.(.*)", key):
            stage, rest = int(match[1]), match[3]
            key = f"features.{2 * stage + 1}.{rest}" if match[2] == "blocks" else f"features.{2 * stage}.{rest}"
        found[key] = value.flatten() if key.endswith("relative_position_index") else value
    return {key: value for key, value in found.items() if "attn_mask" not in key} | _one_bias(found)


def _one_bias(state: State) -> State:
    """Version 2 of timm keeps the biases of query and value apart; the key has none."""
    bias = {}
    for key, query in state.items():
        if key.endswith("q_bias"):
            value = state[key.replace("q_bias", "v_bias")]
            bias[key.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return bias


def to_transformers(model: nn.Module, prefix: str) -> State:
    """Weights of a timm Swin for transformers: query, key and value are three layers, and a stage merges at its end."""
    names = {
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection", r"^patch_embed\.norm": "embeddings.norm",
        r"^norm\.": "layernorm.", r"^head\.fc": "classifier", r"\.norm1\.": ".layernorm_before.",
        r"\.norm2\.": ".layernorm_after.", r"^layers": "encoder.layers",
    }  # fmt: skip
    layers = {
        "swin": {r"\.mlp\.fc": ".mlp.fc", r"\.attn\.proj\.": ".attention.o_proj.",
                 r"\.attn\.relative_position_bias": ".attention.relative_position_bias.relative_position_bias"},
        "swinv2": {r"\.mlp\.fc1": ".intermediate.dense", r"\.mlp\.fc2": ".output.dense",
                   r"\.attn\.proj\.": ".attention.output.dense.", r"\.attn\.logit_scale": ".attention.self.logit_scale",
                   r"\.attn\.cpb_mlp": ".attention.self.continuous_position_bias_mlp"},
    }  # fmt: skip
    parts = {
        "swin": [f"attention.{part}_proj" for part in "qkv"],
        "swinv2": [f"attention.self.{part}" for part in ("query", "key", "value")],
    }
    found = {}
    for key, value in renamed(dict(model.state_dict()), names | layers[prefix]).items():
        if match := re.match(r"encoder\.layers\.(\d)\.downsample\.(.*)", key):
            key = f"encoder.layers.{int(match[1]) - 1}.downsample.{match[2]}"
        if ".attn.qkv." in key:
            for part, piece in zip(parts[prefix], value.chunk(3), strict=True):
                found[key.replace("attn.qkv", part)] = piece
        elif "_bias" in key and key.rpartition(".")[2] in ("q_bias", "v_bias"):
            part = parts[prefix][0 if key.endswith("q_bias") else 2]
            found[re.sub(r"attn\.[qv]_bias", f"{part}.bias", key)] = value
        elif not key.endswith(("relative_position_index", "attn_mask", "k_bias", "relative_coords_table")):
            found[key] = value
    return {key if key.startswith("classifier") else f"{prefix}.{key}": value for key, value in found.items()}


def load(model: nn.Module, state: State) -> nn.Module:
    """Load weights; only buffers that the class computes may be missing."""
    missing, unexpected = model.load_state_dict(state, strict=False)
    computed = ("relative_position_index", "relative_coords_table", "attn_mask")
    left = [key for key in [*missing, *unexpected] if not key.endswith((*computed, "q_bias", "v_bias", "k_bias"))]
    assert not left, left
    return model.eval()


def same_weights(library: str, name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """A timm Swin, the same in another library, and images; windows of 2 tokens divide every grid of 32 pixels."""
    model, images = build(name)
    return model, convert(model, library, name), images


def convert(model: nn.Module, library: str, name: str) -> nn.Module:
    """A timm Swin for 32 pixels, "v1" or "v2", in another library."""
    if library == "torchvision":
        return load(torchvision_swin(name, 2), to_torchvision(model))
    return load(transformers_swin(name, 32, 2), to_transformers(model, "swin" if name == "v1" else "swinv2"))


class PooledSwin(nn.Module):
    """A classifier made of MONAI's Swin: its coarsest features, averaged over all axes, and a linear head."""

    def __init__(self, axes: int, *, window: tuple[int, ...], patch: tuple[int, ...], classes: int = 3) -> None:
        super().__init__()
        self.swin = SwinTransformer(
            in_chans=1, embed_dim=12, window_size=window, patch_size=patch, depths=(2, 2, 2, 2),
            num_heads=(1, 2, 2, 4), spatial_dims=axes, downsample=PatchMergingV2,
        )  # fmt: skip
        self.head = nn.Linear(12 * 2**4, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.swin(images)[-1].flatten(2).mean(dim=2))
        return logits


def large_weights(model: nn.Module) -> nn.Module:
    """Random weights that make attention far from uniform."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15, generator=generator)
    return model.eval()


def segmenter(axes: int = 3) -> nn.Module:
    """A small SwinUNETR."""
    return large_weights(
        SwinUNETR(
            in_channels=1, out_channels=2, feature_size=12, num_heads=(1, 2, 2, 4), window_size=2, spatial_dims=axes
        )
    )

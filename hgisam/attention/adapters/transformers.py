"""Hugging Face transformers: `Swin…` and `Swinv2…`. Tokens are [B, rows · cols, channels], beside their grid."""

from typing import Any

from transformers.models.swin.modeling_swin import SwinAttention
from transformers.models.swinv2.modeling_swinv2 import Swinv2Attention

from hgisam.attention.swin import Axes, Swin, per_axis


class TransformersSwin(Swin):
    """`SwinModel`, `Swinv2Model` and `Swinv2Backbone`; their classifiers have the head."""

    attention_types = (SwinAttention, Swinv2Attention)
    norms = {"norm1": "layernorm_before", "norm2": "layernorm_after"}

    def __init__(self, module: Any) -> None:
        blocks, embed = [stage.blocks for stage in module.encoder.layers], module.embeddings
        super().__init__(module, blocks, embed, embed.patch_embeddings.projection, None)

    def attention(self, block: Any) -> Any:
        return block.attention

    def grid(self, given: tuple[Any, ...]) -> Axes:
        return per_axis(given[1])

    def window(self, block: Any, grid: Axes) -> tuple[Axes, Axes]:
        return per_axis(int(block.window_size)), per_axis(int(block.shift_size))

    def settings(self) -> list[tuple[Any, str, Any]]:
        """Eager attention; and each block's window, which version 1 shrinks for good to a smaller grid."""
        configs = {id(module.config): module.config for module in self.module.modules() if hasattr(module, "config")}
        eager = [(config, "_attn_implementation", "eager") for config in configs.values()]
        sizes = [(b, name) for blocks in self.stages for b in blocks for name in ("window_size", "shift_size")]
        return eager + [(block, name, getattr(block, name)) for block, name in sizes]

    def valid_size(self, size: Axes) -> tuple[bool, list[str]]:
        embed: Any = self.embed
        if embed.position_embeddings is not None:  # absolute positions, learned for one size
            whole = tuple(tokens * px for tokens, px in zip(embed.patch_grid, self.patch, strict=True))
            return size == whole, [str(side) for side in whole]
        if not isinstance(self.attention(self.stages[0][0]), SwinAttention):
            return super().valid_size(size)
        # version 1 shrinks the window to a smaller grid, but not its position biases, and fails
        window = max(self.attention(block).relative_position_bias.window_size[0] for block in self.stages[-1])
        least = [(window - 1) * px * 2 ** (len(self.stages) - 1) for px in self.patch]
        return all(side > px for side, px in zip(size, least, strict=True)), [f"> {px}" for px in least]

"""Swins of Hugging Face transformers: `SwinModel` and `Swinv2Model`, alone or with a head."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from torch import nn
from transformers.models.swin.modeling_swin import SwinAttention, SwinModel
from transformers.models.swinv2.modeling_swinv2 import Swinv2Attention, Swinv2Backbone, Swinv2Model

from hgisam.adapters.protocol import Size, SwinAdapter

NORMS = {"norm1": "layernorm_before", "norm2": "layernorm_after"}


class Adapter(SwinAdapter):
    """Blocks take tokens as one sequence and their grid beside it; attention is eager while recording.

    Version 1 fits window and shift of a block to a grid within one window, and leaves them so; here they are set back.
    """

    found_by = (SwinModel, Swinv2Model, Swinv2Backbone)
    attention = (SwinAttention, Swinv2Attention)

    @property
    def stages(self) -> list[Sequence[Any]]:
        return [stage.blocks for stage in self.swin.encoder.layers]

    @property
    def patch_embed(self) -> Any:
        return self.swin.embeddings.patch_embeddings

    @property
    def projection(self) -> Any:
        return self.patch_embed.projection

    def grid(self, given: tuple[Any, ...]) -> Size:
        return tuple(map(int, given[1]))  # of (tokens [B, rows · cols, C], (rows, cols))

    def attention_of(self, block: Any) -> nn.Module:
        attention: nn.Module = block.attention
        return attention

    def norm(self, block: Any, name: str) -> nn.Module:
        return super().norm(block, NORMS[name])

    def settings(self) -> Iterator[tuple[Any, str, Any]]:
        yield self.swin.config, "_attn_implementation", "eager"
        for block in chain.from_iterable(self.stages):
            yield from ((block, name, getattr(block, name)) for name in ("window_size", "shift_size"))

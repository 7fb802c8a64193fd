"""Attention, activations and their gradients, read from a Swin during classification.

`swin` finds the Swin in a model and holds its geometry, `hooks` the forward hooks, `gradients` the forward and backward
passes. The model is left as it was, also after an error: modes, flags, `requires_grad`, no hook and no `.grad`.
"""

from hgisam.attention.gradients import (
    activation_gradients,
    attention_gradients,
    image_gradients,
    record_attention,
    reduce_attention,
    reduce_gradients,
)
from hgisam.attention.swin import BlockAttention, BlockGeometry, find_swin

__all__ = [
    "BlockAttention", "BlockGeometry", "activation_gradients", "attention_gradients", "find_swin", "image_gradients",
    "record_attention", "reduce_attention", "reduce_gradients",
]  # fmt: skip

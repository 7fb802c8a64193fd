"""Attention, activations and their gradients, read from a Swin while it classifies.

`swin` finds the Swin in a model and knows its geometry, `hooks` holds the forward hooks, `gradients` the passes through
the model. The model is left as it was: modes, flags, `requires_grad`, no hook and no `.grad`. Knows neither profiles
nor data.
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
    "BlockAttention",
    "BlockGeometry",
    "activation_gradients",
    "attention_gradients",
    "find_swin",
    "image_gradients",
    "record_attention",
    "reduce_attention",
    "reduce_gradients",
]

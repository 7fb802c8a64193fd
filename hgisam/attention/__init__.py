"""Attention, activations and their gradients, read from a Swin during classification.

`adapters` find the Swin of each library in a model, `swin` is the protocol that they follow and the geometry of blocks,
`inspection` the checked forward pass, `hooks` the hooks, `gradients` the forward and backward passes. The model is left
as it was, also after an error: modes, flags, `requires_grad`, no hook and no `.grad`.
"""

from hgisam.attention.adapters import find_swin
from hgisam.attention.gradients import (
    activation_gradients,
    attention_gradients,
    changed_logit,
    image_gradients,
    record_attention,
    reduce_attention,
    reduce_gradients,
)
from hgisam.attention.inspection import Logit
from hgisam.attention.swin import BlockAttention, BlockGeometry, Swin

__all__ = [
    "BlockAttention", "BlockGeometry", "Logit", "Swin", "activation_gradients", "attention_gradients", "changed_logit",
    "find_swin", "image_gradients", "record_attention", "reduce_attention", "reduce_gradients",
]  # fmt: skip

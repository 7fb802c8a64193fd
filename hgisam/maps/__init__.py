"""Saliency maps: where in a slice a classifier finds its evidence for a bleed.

Every method has one signature, `method(model, images, target, *, brain=None, logit=None, ...) -> maps`: images
[B, C, H, W], `target` a class, maps [B, H, W] in [0, 1], float32. A new method is a file here and a line in `METHODS`.

Passes per image, and when to use which: `swin_sam` and `rollout` take one forward pass, the same for each class.
`hgi_sam`, `grad_cam`, `hires_cam`, `layer_cam`, `relevance`, `attn_lrp` and `gradient_input` take one forward and one
backward pass: begin with `hgi_sam`. The averaged maps take eight times those of their method, for a better mask. Those
of `SLOW` are for a few images: `integrated_gradients` takes 32 forward and 32 backward passes, for effects that sum to
the logit; `ablation_cam` and `score_cam` a forward pass for each channel of a layer, and no gradients.
`hgisam.inference.sliding_windows` applies a method to volumes that exceed the memory.
"""

from collections.abc import Callable

from torch import Tensor

from hgisam.maps.ablation_cam import ablation_cam
from hgisam.maps.attn_lrp import attn_lrp
from hgisam.maps.grad_cam import grad_cam
from hgisam.maps.gradient_input import gradient_input
from hgisam.maps.hgi_sam import hgi_sam, hgi_sam_averaged
from hgisam.maps.hires_cam import hires_cam
from hgisam.maps.integrated_gradients import integrated_gradients
from hgisam.maps.layer_cam import layer_cam
from hgisam.maps.relevance import relevance
from hgisam.maps.rollout import rollout
from hgisam.maps.score_cam import score_cam
from hgisam.maps.swin_sam import swin_sam, swin_sam_averaged

METHODS: dict[str, Callable[..., Tensor]] = {
    "hgi_sam": hgi_sam,
    "swin_sam": swin_sam,
    "hgi_sam_averaged": hgi_sam_averaged,
    "swin_sam_averaged": swin_sam_averaged,
    "grad_cam": grad_cam,
    "hires_cam": hires_cam,
    "layer_cam": layer_cam,
    "ablation_cam": ablation_cam,
    "score_cam": score_cam,
    "rollout": rollout,
    "relevance": relevance,
    "attn_lrp": attn_lrp,
    "gradient_input": gradient_input,
    "integrated_gradients": integrated_gradients,
}
SLOW = ("ablation_cam", "score_cam", "integrated_gradients")  # tens to hundreds of passes per image

__all__ = [
    "METHODS", "SLOW", "ablation_cam", "attn_lrp", "grad_cam", "gradient_input", "hgi_sam", "hgi_sam_averaged",
    "hires_cam", "integrated_gradients", "layer_cam", "relevance", "rollout", "score_cam",
    "swin_sam", "swin_sam_averaged",
]  # fmt: skip

"""AttnLRP on Swin: relevance of pixels, passed on from layer to layer through windowed attention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hgisam.attention.gradients import image_gradients
from hgisam.attention.swin import Logit
from hgisam.maps.combine import to_unit_range

MATMUL = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
SCALED = (F.gelu, F.relu, F.normalize)  # passed on as output / input, a constant


def attn_lrp(
    model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None, logit: Logit | None = None
) -> Tensor:
    """Relevance of each pixel for the logit, summed over channels and rectified.

    One forward and one backward pass: relevance is gradient × input, the gradient that of `LrpRules`.

    Args, Returns and Raises: those of `hgi_sam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> attn_lrp(SwinTransformer(img_size=64, window_size=2), torch.randn(1, 3, 64, 64), target=0).shape
        torch.Size([1, 64, 64])

    Source: Achtibat et al., AttnLRP, ICML 2024, with ε = 0. Departs from it: no γ rule at the patch embedding, so that
    maps are noisier; negative sums are 0 here.
    """
    with LrpRules():
        gradient = image_gradients(model, images, target, logit=logit)
    return to_unit_range((gradient * images.detach()).sum(dim=1).relu(), brain)


class LrpRules(TorchFunctionMode):
    """The backward pass of AttnLRP in a `with` block; values of the forward pass stay, but for rounding.

    - Attention × values, and queries × keys: half of the gradient to each factor (uniform rule).
    - Layer norm, and the length of queries and keys in version 2: their scale is a constant (identity rule).
    - GELU and ReLU: the gradient is output / input (identity rule).
    - Linear layers, patch merging, sums, softmax: the gradient as it is (ε rule, and Taylor rule at the softmax).

    Relevance is conserved from layer to layer but for biases and the softmax, whose Taylor expansion has a constant.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in MATMUL and all(factor.requires_grad for factor in args):  # weights are frozen
            return func(*(factor / 2 + (factor / 2).detach() for factor in args), **kwargs)
        output = func(*args, **kwargs)
        if func in SCALED:
            return _with_gradient_of(args[0] * (output / args[0]).detach().nan_to_num(0.0, 0.0, 0.0), output)
        return _with_gradient_of(_constant_scale(*args, **kwargs), output) if func is F.layer_norm else output


def _with_gradient_of(surrogate: Tensor, output: Tensor) -> Tensor:
    """The output, with the gradient of a surrogate of equal value."""
    return surrogate + (output - surrogate).detach()


def _constant_scale(
    given: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Layer norm whose standard deviation is a constant."""
    axes = tuple(range(-len(shape), 0))
    scale = (given.var(dim=axes, unbiased=False, keepdim=True) + eps).rsqrt().detach()
    normed = (given - given.mean(dim=axes, keepdim=True)) * scale
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias

"""Attention, activations and their gradients, read from a Swin while it classifies.

Everything here leaves the model as it was, also after an error: modes, flags, `requires_grad`, no hook and no `.grad`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from hgisam.attention.hooks import hooked
from hgisam.attention.swin import (
    BlockAttention,
    BlockGeometry,
    at_least_float32,
    find_swin,
    logit_scale,
    target_logit,
)
from hgisam.errors import InputError, check_choice

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


@contextmanager
def record_attention(model: nn.Module, stages: Sequence[int]) -> Iterator[list[BlockAttention]]:
    """Records scores and attention of every block of the given stages during the forward pass in the `with` block.

    Inside, the model is in evaluation mode, its parameters are frozen and fused attention is off, since it never forms
    the matrix; afterwards it is as it was and no hook remains. The recorded tensors belong to the graph, if there is
    one. Swin v2-CR forms its scores out of reach: they are recorded as the logarithm of the attention, which differs
    from them by a constant a row and has the same gradient.

    Args:
        model: Is or contains one timm Swin.
        stages: Numbers of the stages to record, from 0.

    Yields:
        The list that the forward pass fills, in the order of the blocks.

    Raises:
        InputError: For a stage that the model has not, or if a block was not recorded exactly once.
    """
    records: list[BlockAttention] = []
    with hooked(model) as watch:
        watch.attention(stages, records.append)
        yield records


def reduce_attention(
    model: nn.Module, images: Tensor, target: int, reduce: Callable[[BlockAttention], Tensor], *, stages: Sequence[int]
) -> dict[BlockGeometry, Tensor]:
    """One forward pass without gradients; each block's attention is reduced as it is formed, and freed.

    Args:
        model: Is or contains one timm Swin, and returns logits.
        images: [B, C, H, W].
        target: A class; checked only.
        reduce: What to keep of a block, whose attention is float32 or better.
        stages: Stages to look at.

    Returns:
        BlockGeometry → what `reduce` kept of it, in the order of the blocks.

    Raises:
        InputError: For a model, images, a target or stages that do not fit.
    """
    kept: dict[BlockGeometry, Tensor] = {}

    def visit(block: BlockAttention) -> None:
        with torch.autocast(images.device.type, enabled=False):
            kept[block.place] = reduce(_detached(block))

    with torch.no_grad(), hooked(model) as watch:
        watch.attention(stages, visit)
        target_logit(model, images, target)
    return kept


def reduce_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    reduce: Callable[[BlockAttention, Tensor], Tensor],
    *,
    stages: Sequence[int],
    gradient_at: str,
) -> dict[BlockGeometry, Tensor]:
    """One forward pass and one backward pass through activations, from the raw logit down to the first block asked for.

    Each block is reduced as its gradient arrives, last block first, and freed. Parameters get no gradients. Under
    float16 the logit is scaled on its way down, and the gradient scaled back in float32.

    Args:
        model: Is or contains one timm Swin, and returns logits.
        images: [B, C, H, W].
        target: Class whose raw logit is differentiated; 0 of a head with one logit.
        reduce: What to keep of a block and its gradient [B·nW, heads, N, N], both float32 or better.
        stages: Stages to look at.
        gradient_at: "scores" (softmax input, as the released code does) or "weights" (softmax output, as the figure of
            its repository says).

    Returns:
        BlockGeometry → what `reduce` kept of it, in the order of the blocks.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient reaches a block.
    """
    check_choice("gradient_at", gradient_at, ("scores", "weights"))
    waiting: dict[BlockGeometry, BlockAttention] = {}
    kept: dict[BlockGeometry, Tensor] = {}
    scale = logit_scale(model, images)

    def visit(block: BlockAttention) -> None:
        waiting[block.place] = _detached(block)
        tensor = block.scores if gradient_at == "scores" else block.attention
        if tensor is not None and tensor.requires_grad:
            tensor.register_hook(partial(arrive, block.place))  # type: ignore[no-untyped-call]

    def arrive(place: BlockGeometry, gradient: Tensor) -> None:
        with torch.autocast(images.device.type, enabled=False):
            kept[place] = reduce(waiting.pop(place), _unscaled(gradient, scale))

    with torch.enable_grad(), hooked(model, start_graph=True) as watch:
        watch.attention(stages, visit)
        logit = target_logit(model, images, target).sum() * scale
    if logit.requires_grad and watch.start is not None:
        torch.autograd.grad(logit, watch.start, allow_unused=True)
    _check_gradients(kept.values(), missing=len(waiting))
    return dict(sorted(kept.items(), key=lambda item: item[0]))


def attention_gradients(
    model: nn.Module, images: Tensor, target: int, *, stages: Sequence[int], gradient_at: str
) -> tuple[list[BlockAttention], list[Tensor]]:
    """Attention of every block and the gradient of a class's logit there, all of it kept: for looking, not for speed.

    Args and Raises: those of `reduce_gradients`.

    Returns:
        Blocks, detached and without scores, and for each the gradient [B·nW, heads, N, N].
    """
    blocks: list[BlockAttention] = []

    def keep(block: BlockAttention, gradient: Tensor) -> Tensor:
        blocks.insert(0, block)  # gradients arrive from the last block to the first
        return gradient

    gradients = reduce_gradients(model, images, target, keep, stages=stages, gradient_at=gradient_at)
    return blocks, list(gradients.values())


def activation_gradients(
    model: nn.Module, images: Tensor, target: int, *, layers: Sequence[tuple[int, int]], at: str
) -> dict[BlockGeometry, tuple[Tensor, Tensor]]:
    """Activations of some blocks and the gradient of a class's logit there, for the CAM family.

    Args:
        model: Is or contains one timm Swin, and returns logits.
        images: [B, C, H, W].
        target: Class whose raw logit is differentiated; 0 of a head with one logit.
        layers: (stage, block) of each, from 0; -1 is the last.
        at: "norm1", "norm2" or "output" of the block. In version 1 the norms stand before attention and MLP, in
            versions 2 and 2-CR behind them.

    Returns:
        BlockGeometry → activation and gradient, both [B, rows, cols, channels], float32 or better.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient arrives.
    """
    check_choice("at", at, ("norm1", "norm2", "output"))
    if not layers:
        raise InputError("stages", "none", "at least one", "Name stages of the model, counted from 0.")
    outputs: dict[BlockGeometry, Tensor] = {}
    scale = logit_scale(model, images)
    with torch.enable_grad(), hooked(model, start_graph=True) as watch:
        for stage, number in layers:
            watch.activation(stage, number, at, outputs.__setitem__)
        logit = target_logit(model, images, target).sum() * scale
    tensors = list(outputs.values())
    if not logit.requires_grad or not all(tensor.requires_grad for tensor in tensors):
        _check_gradients([], missing=len(tensors))
    gradients = torch.autograd.grad(logit, tensors, allow_unused=True)
    arrived = [_unscaled(gradient, scale) for gradient in gradients if gradient is not None]
    _check_gradients(arrived, missing=len(tensors) - len(arrived))
    activations = (at_least_float32(t.detach()).reshape(len(images), *place.grid, -1) for place, t in outputs.items())
    return {
        place: (activation, gradient.reshape(activation.shape))
        for place, activation, gradient in zip(outputs, activations, arrived, strict=True)
    }


def image_gradients(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Gradient [B, C, H, W] of a class's logit with respect to the image, float32 or better.

    Args and Raises: those of `reduce_gradients`.
    """
    scale = logit_scale(model, images)
    with torch.enable_grad(), hooked(model):
        given = images.detach().clone().requires_grad_(images.is_floating_point())
        logit = target_logit(model, given, target).sum() * scale
    _check_gradients([], missing=0 if logit.requires_grad else 1)
    (gradient,) = torch.autograd.grad(logit, [given])
    gradient = _unscaled(gradient, scale)
    _check_gradients([gradient], missing=0)
    return gradient


def _detached(block: BlockAttention) -> BlockAttention:
    """Without scores: as large as the attention, they would double what a block keeps until its gradient arrives."""
    return replace(block, scores=None, attention=at_least_float32(block.attention.detach()))


def _unscaled(gradient: Tensor, scale: float) -> Tensor:
    gradient = at_least_float32(gradient)
    return gradient if scale == 1 else gradient / scale


def _check_gradients(gradients: Iterable[Tensor], *, missing: int) -> None:
    if missing:
        remedy = "Look for detach() or no_grad() in the model's forward."
        raise InputError(
            "gradient", f"none at {missing} of the recorded tensors", "a path from the logit to each", remedy
        )
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        raise InputError("gradient", "values that are not finite", "finite values", "Use bfloat16 or float32.")

"""Forward and backward passes that read attention, activations and gradients; the model is left as it was."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from hgisam.attention.hooks import Change, forward_hooks
from hgisam.attention.inspection import Logit, check_finite, logit_scale, upcast
from hgisam.attention.swin import BlockAttention, BlockGeometry
from hgisam.errors import InputError, check_choice

Rules = AbstractContextManager[object]


@contextmanager
def record_attention(model: nn.Module, stages: Sequence[int]) -> Iterator[list[BlockAttention]]:
    """Record scores and attention of every block of some stages during one forward pass in the `with` block.

    Inside, the model is in evaluation mode with frozen parameters and without fused attention, which never forms the
    matrix. Recorded tensors belong to the autograd graph, if there is one.

    Args:
        model: Is or contains one Swin, see `find_swin`.
        stages: Indices of the stages to record, from 0.

    Yields:
        The list that the forward pass fills, in forward order.

    Raises:
        InputError: For a stage that does not exist, or if a block was not recorded exactly once.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> with record_attention(model, stages=[0]) as blocks:
        ...     logits = model(torch.randn(1, 3, 64, 64))
        >>> blocks[1].attention.shape  # 8 × 8 windows, 3 heads
        torch.Size([64, 3, 4, 4])
    """
    records: list[BlockAttention] = []
    with forward_hooks(model) as hooks:
        hooks.on_attention(stages, records.append)
        yield records


def reduce_attention(
    model: nn.Module,
    images: Tensor,
    target: int,
    reduce: Callable[[BlockAttention], Tensor],
    *,
    stages: Sequence[int],
    logit: Logit | None = None,
) -> dict[BlockGeometry, Tensor]:
    """Reduce the attention of each block as it is computed, in one forward pass without gradients.

    Args:
        model: Is or contains one Swin, see `find_swin`, and returns logits.
        images: [B, C, H, W], or volumes [B, C, D, H, W] for a Swin of three axes.
        target: Class index; validated only.
        reduce: Called with each block, its attention in float32 or better; only its result is kept.
        stages: Indices of the stages, from 0.
        logit: From the model's output to logits [B, classes]; None where it returns them, or an object with `logits`.

    Returns:
        BlockGeometry → result of `reduce`, in forward order.

    Raises:
        InputError: For a model, images, a target or stages that do not fit.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> peaks = reduce_attention(model, images, 0, lambda block: block.attention.amax(dim=(1, 2, 3)), stages=[0])
        >>> [(block.stage, block.block, peak.shape) for block, peak in peaks.items()]
        [(0, 0, torch.Size([64])), (0, 1, torch.Size([64]))]
    """
    reduced: dict[BlockGeometry, Tensor] = {}

    def visit(block: BlockAttention) -> None:
        with torch.autocast(images.device.type, enabled=False):
            reduced[block.geometry] = reduce(_detached(block))

    with torch.no_grad(), forward_hooks(model, logit=logit) as hooks:
        hooks.on_attention(stages, visit)
        hooks.target_logit(images, target)
    return reduced


def reduce_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    reduce: Callable[[BlockAttention, Tensor], Tensor],
    *,
    stages: Sequence[int],
    gradient_at: str,
    logit: Logit | None = None,
) -> dict[BlockGeometry, Tensor]:
    """Reduce each block's attention and the gradient of the target logit there, in one forward and one backward pass.

    The backward pass runs through activations only, down to the first block of `stages`. Each block is reduced as its
    gradient arrives, last block first, and freed. Parameters get no gradients. Under float16 the logit is scaled, and
    the gradient scaled back in float32.

    Args:
        model, images, logit: As in `reduce_attention`.
        target: Class whose raw logit is differentiated; 0 for a head with one logit.
        reduce: Called with each block and its gradient [B·nW, heads, N, N], both float32 or better.
        stages: Indices of the stages, from 0.
        gradient_at: "scores" (softmax input, as in the released code) or "weights" (softmax output, as in the figure of
            its repository).

    Returns:
        BlockGeometry → result of `reduce`, in forward order.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient reaches a block.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> frobenius = lambda block, gradient: gradient.norm(dim=(2, 3))  # per window and head
        >>> norms = reduce_gradients(model, images, 0, frobenius, stages=[1], gradient_at="scores")
        >>> [norm.shape for norm in norms.values()]
        [torch.Size([16, 6]), torch.Size([16, 6])]
    """
    check_choice("gradient_at", gradient_at, ("scores", "weights"))
    pending: dict[BlockGeometry, BlockAttention] = {}
    reduced: dict[BlockGeometry, Tensor] = {}
    scale = logit_scale(model, images)

    def visit(block: BlockAttention) -> None:
        pending[block.geometry] = _detached(block)
        tensor = block.scores if gradient_at == "scores" else block.attention
        if tensor is not None and tensor.requires_grad:
            tensor.register_hook(partial(arrive, block.geometry))  # type: ignore[no-untyped-call]

    def arrive(geometry: BlockGeometry, gradient: Tensor) -> None:
        with torch.autocast(images.device.type, enabled=False):
            reduced[geometry] = reduce(pending.pop(geometry), _unscaled(gradient, scale))

    with torch.enable_grad(), forward_hooks(model, logit=logit, start_graph=True) as hooks:
        hooks.on_attention(stages, visit)
        score = hooks.target_logit(images, target).sum() * scale
    if score.requires_grad and hooks.start is not None:
        torch.autograd.grad(score, hooks.start, allow_unused=True)
    _check_gradients(reduced.values(), missing=len(pending))
    return dict(sorted(reduced.items(), key=lambda item: item[0]))


def attention_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    stages: Sequence[int],
    gradient_at: str,
    logit: Logit | None = None,
) -> tuple[list[BlockAttention], list[Tensor]]:
    """Attention of every block and the gradient of the target logit there, all kept: for inspection, not for speed.

    Args and Raises: those of `reduce_gradients`.

    Returns:
        Blocks, detached and without scores, and the gradient [B·nW, heads, N, N] of each.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> blocks, gradients = attention_gradients(model, images, 0, stages=[0], gradient_at="weights")
        >>> len(blocks), gradients[0].shape == blocks[0].attention.shape
        (2, True)
    """
    blocks: list[BlockAttention] = []

    def keep(block: BlockAttention, gradient: Tensor) -> Tensor:
        blocks.insert(0, block)  # gradients arrive from the last block to the first
        return gradient

    gradients = reduce_gradients(model, images, target, keep, stages=stages, gradient_at=gradient_at, logit=logit)
    return blocks, list(gradients.values())


def activation_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    layers: Sequence[tuple[int, int]],
    at: str,
    logit: Logit | None = None,
) -> dict[BlockGeometry, tuple[Tensor, Tensor]]:
    """Activations of some blocks and the gradient of the target logit there, for the CAM family.

    Args:
        model, images, target, logit: As in `reduce_gradients`.
        layers: (stage, block) of each, from 0; -1 is the last.
        at: "norm1", "norm2" or "output" of the block. The norms precede attention and MLP in version 1 (pre-norm) and
            follow them in versions 2 and 2-CR (res-post-norm).

    Returns:
        BlockGeometry → activation and gradient, both [B, *grid, channels], float32 or better.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient arrives.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> found = activation_gradients(model, images, 0, layers=[(-1, -1)], at="norm1")
        >>> [activation.shape for activation, gradient in found.values()]
        [torch.Size([1, 2, 2, 192])]
    """
    check_choice("at", at, ("norm1", "norm2", "output"))
    if not layers:
        raise InputError("stages", "none", "at least one", "Choose stages of the model, from 0.")
    outputs: dict[BlockGeometry, Tensor] = {}
    scale = logit_scale(model, images)
    with torch.enable_grad(), forward_hooks(model, logit=logit, start_graph=True) as hooks:
        for stage, block in layers:
            hooks.on_activation(stage, block, at, outputs.__setitem__)
        score = hooks.target_logit(images, target).sum() * scale
    gradients = _gradients(score, list(outputs.values()), scale)
    activations = [upcast(t.detach()).reshape(len(images), *g.grid, -1) for g, t in outputs.items()]
    pairs = ((a, gradient.reshape(a.shape)) for a, gradient in zip(activations, gradients, strict=True))
    return dict(zip(outputs, pairs, strict=True))


def changed_logit(
    model: nn.Module,
    images: Tensor,
    target: int,
    change: Change,
    *,
    layer: tuple[int, int],
    at: str,
    logit: Logit | None = None,
) -> Tensor:
    """Logit [B] of the target class when `change` replaces the activation of one layer; no gradients.

    Args:
        model, images, target, logit: As in `reduce_gradients`.
        change: From the block and its activation [B, *grid, channels] to another, or to None to leave it.
        layer: (stage, block), from 0; -1 is the last.
        at: As in `activation_gradients`.

    Raises:
        InputError: For a model, images or options that do not fit.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> zeroed = lambda block, activation: torch.zeros_like(activation)
        >>> changed_logit(model, images, 0, zeroed, layer=(-1, -1), at="output").shape
        torch.Size([1])
    """
    check_choice("at", at, ("norm1", "norm2", "output"))

    def on_grid(block: BlockGeometry, tokens: Tensor) -> Tensor | None:
        changed = change(block, tokens.reshape(len(images), *block.grid, -1))
        return None if changed is None else changed.reshape(tokens.shape)

    with torch.no_grad(), forward_hooks(model, logit=logit) as hooks:
        hooks.on_activation(*layer, at, on_grid)
        return hooks.target_logit(images, target)


def image_gradients(
    model: nn.Module, images: Tensor, target: int, *, logit: Logit | None = None, rules: Rules | None = None
) -> Tensor:
    """Gradient of the target logit with respect to the image, of its shape, float32 or better.

    Args and Raises: those of `reduce_gradients`; `rules` change the backward pass, see `hgisam.maps.attn_lrp`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> image_gradients(model, torch.randn(1, 3, 64, 64), target=0).shape
        torch.Size([1, 3, 64, 64])
    """
    scale = logit_scale(model, images)
    with torch.enable_grad(), forward_hooks(model, logit=logit) as hooks, rules or nullcontext():
        leaf = images.detach().clone().requires_grad_(images.is_floating_point())
        score = hooks.target_logit(leaf, target).sum() * scale
    return _gradients(score, [leaf], scale)[0]


def _detached(block: BlockAttention) -> BlockAttention:
    """The block without its graph and without scores, which would double its memory until its gradient arrives."""
    return replace(block, scores=None, attention=upcast(block.attention.detach()))


def _gradients(score: Tensor, tensors: Sequence[Tensor], scale: float) -> list[Tensor]:
    """Gradients of a scaled logit, scaled back, float32 or better; an InputError where none arrives."""
    if not score.requires_grad or not all(tensor.requires_grad for tensor in tensors):
        _check_gradients([], missing=len(tensors))
    found = torch.autograd.grad(score, tensors, allow_unused=True)
    gradients = [_unscaled(gradient, scale) for gradient in found if gradient is not None]
    _check_gradients(gradients, missing=len(tensors) - len(gradients))
    return gradients


def _unscaled(gradient: Tensor, scale: float) -> Tensor:
    gradient = upcast(gradient)
    return gradient if scale == 1 else gradient / scale  # no copy of what may be large


def _check_gradients(gradients: Iterable[Tensor], *, missing: int) -> None:
    if missing:
        got, remedy = f"none at {missing} of the recorded tensors", "Look for detach() or no_grad() in its forward."
        raise InputError("gradient", got, "a differentiable path from the logit to each", remedy)
    for gradient in gradients:
        check_finite("gradient", gradient, "Use bfloat16 or float32.")

"""Forward and backward passes that read attention, activations and gradients; the model is left as it was."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from hgisam.attention.hooks import Change, forward_hooks
from hgisam.attention.swin import BlockAttention, BlockGeometry, Logit, check_finite, logit_scale, target_logit, upcast
from hgisam.errors import InputError, check_choice


@contextmanager
def record_attention(model: nn.Module, stages: Sequence[int] | None = None) -> Iterator[list[BlockAttention]]:
    """Record scores and attention of every block of some stages during one forward pass in the `with` block.

    Inside, the model is in evaluation mode with frozen parameters and without fused attention, which never forms the
    matrix; otherwise logits are bit-equal. Recorded tensors belong to the autograd graph, if there is one.

    Args:
        model: Is or contains one Swin of timm, torchvision, transformers or MONAI.
        stages: Indices of the stages to record, from 0; None for all.

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
    stages: Sequence[int] | None,
    logit: Logit | None = None,
) -> dict[BlockGeometry, Tensor]:
    """Reduce the attention of each block as it is computed, in one forward pass without gradients.

    Args:
        model: Is or contains one Swin, and returns logits.
        images: [B, C, H, W], or volumes [B, C, D, H, W].
        target: Class index; validated only.
        reduce: Called with each block, its attention in float32 or better; only its result is kept.
        stages: Indices of the stages, from 0; None for all.
        logit: Makes logits [B, classes] of the model's output, where that is something else.

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

    with torch.no_grad(), forward_hooks(model) as hooks:
        hooks.on_attention(stages, visit)
        target_logit(model, images, target, logit)
    return reduced


def reduce_gradients(
    model: nn.Module,
    images: Tensor,
    target: int,
    reduce: Callable[[BlockAttention, Tensor], Tensor],
    *,
    stages: Sequence[int] | None,
    gradient_at: str,
    logit: Logit | None = None,
) -> dict[BlockGeometry, Tensor]:
    """Reduce each block's attention and the gradient of the target logit there, in one forward and one backward pass.

    The backward pass runs through activations only, down to the first block of `stages`. Each block is reduced as its
    gradient arrives, last block first, and freed. Parameters get no gradients. Under float16 the logit is scaled, and
    the gradient scaled back in float32.

    Args:
        model: Is or contains one Swin, and returns logits.
        images: [B, C, H, W], or volumes [B, C, D, H, W].
        target: Class whose raw logit is differentiated; 0 for a head with one logit.
        reduce: Called with each block and its gradient [B·nW, heads, N, N], both float32 or better.
        stages: Indices of the stages, from 0; None for all.
        gradient_at: "scores" (softmax input, as in the released code) or "weights" (softmax output, as in the figure of
            its repository).
        logit: As in `reduce_attention`.

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

    def visit(block: BlockAttention) -> None:
        pending[block.geometry] = _detached(block)
        tensor = block.scores if gradient_at == "scores" else block.attention
        if tensor is not None and tensor.requires_grad:
            tensor.register_hook(partial(arrive, block.geometry))  # type: ignore[no-untyped-call]

    def arrive(geometry: BlockGeometry, gradient: Tensor) -> None:
        with torch.autocast(images.device.type, enabled=False):
            reduced[geometry] = reduce(pending.pop(geometry), _unscaled(gradient, scale))

    with torch.enable_grad(), forward_hooks(model, start_graph=True) as hooks:
        hooks.on_attention(stages, visit)
        scale = logit_scale(model, images)
        explained = target_logit(model, images, target, logit).sum() * scale
    if explained.requires_grad and hooks.start is not None:
        torch.autograd.grad(explained, hooks.start, allow_unused=True)
    _check_gradients(reduced.values(), missing=len(pending))
    return dict(sorted(reduced.items(), key=lambda item: item[0]))


def attention_gradients(
    model: nn.Module, images: Tensor, target: int, *, stages: Sequence[int] | None, gradient_at: str
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

    gradients = reduce_gradients(model, images, target, keep, stages=stages, gradient_at=gradient_at)
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
        model, images, target: As in `reduce_gradients`.
        layers: (stage, block) of each, from 0; -1 is the last.
        at: "norm1", "norm2" or "output" of the block. The norms precede attention and MLP in version 1 (pre-norm) and
            follow them in versions 2 and 2-CR (res-post-norm).
        logit: As in `reduce_attention`.

    Returns:
        BlockGeometry → activation and gradient, both [B, rows, cols, channels], float32 or better.

    Raises:
        InputError: For a model, images or options that do not fit, or where no finite gradient arrives.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> found = activation_gradients(model, images, 0, layers=[(-1, -1)], at="norm1")
        >>> [activation.shape for activation, gradient in found.values()]
        [torch.Size([1, 2, 2, 192])]
    """
    if not layers:
        raise InputError("stages", "none", "at least one", "Choose stages of the model, from 0.")
    outputs: dict[BlockGeometry, Tensor] = {}
    with torch.enable_grad(), forward_hooks(model, start_graph=True) as hooks:
        scale = logit_scale(model, images)
        for stage, block in layers:
            hooks.on_activation(stage, block, at, outputs.__setitem__)
        explained = target_logit(model, images, target, logit).sum() * scale
    gradients = _gradients(explained, list(outputs.values()), scale)
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
    """Logit [B] of the target class, without gradients, while `change` sees and may replace one layer's activation.

    Args:
        model, images, target, logit: As in `reduce_gradients`.
        change: From the block and its activation [B, rows, cols, channels] to another, or to None, which leaves it.
        layer: (stage, block), from 0; -1 is the last.
        at: As in `activation_gradients`.

    Raises:
        InputError: For a model, images or options that do not fit.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model, images = SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64)
        >>> changed_logit(model, images, 0, lambda _, tokens: tokens * 0, layer=(-1, -1), at="output").shape
        torch.Size([1])
    """

    def on_grid(block: BlockGeometry, tokens: Tensor) -> Tensor | None:
        changed = change(block, tokens.reshape(len(images), *block.grid, -1))
        return None if changed is None else changed.reshape(tokens.shape)

    with torch.no_grad(), forward_hooks(model) as hooks:
        hooks.on_activation(*layer, at, on_grid)
        return target_logit(model, images, target, logit)


def logit_and_activation(
    model: nn.Module, images: Tensor, target: int, *, layer: tuple[int, int], at: str, logit: Logit | None
) -> tuple[Tensor, Tensor, BlockGeometry]:
    """Logit [B], activation of one layer with channels last, float32 or better, and its block; no gradients."""
    kept: dict[BlockGeometry, Tensor] = {}

    def keep(block: BlockGeometry, tokens: Tensor) -> None:
        kept[block] = upcast(tokens)

    whole = changed_logit(model, images, target, keep, layer=layer, at=at, logit=logit)
    ((geometry, activation),) = kept.items()
    return whole, activation, geometry


def image_gradients(model: nn.Module, images: Tensor, target: int, *, logit: Logit | None = None) -> Tensor:
    """Gradient, shaped as the images, of the target logit with respect to the image, float32 or better.

    Args and Raises: those of `reduce_gradients`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> model = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> image_gradients(model, torch.randn(1, 3, 64, 64), target=0).shape
        torch.Size([1, 3, 64, 64])
    """
    with torch.enable_grad(), forward_hooks(model):
        scale = logit_scale(model, images)
        leaf = images.detach().clone().requires_grad_()
        explained = target_logit(model, leaf, target, logit).sum() * scale
    return _gradients(explained, [leaf], scale)[0]


def _detached(block: BlockAttention) -> BlockAttention:
    """The block without its graph and without scores, which would double its memory until its gradient arrives."""
    return replace(block, scores=None, attention=upcast(block.attention.detach()))


def _gradients(logit: Tensor, tensors: Sequence[Tensor], scale: float) -> list[Tensor]:
    """Gradients of a scaled logit, scaled back, float32 or better; an InputError where none arrives."""
    if not logit.requires_grad or not all(tensor.requires_grad for tensor in tensors):
        _check_gradients([], missing=len(tensors))
    found = torch.autograd.grad(logit, tensors, allow_unused=True)
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

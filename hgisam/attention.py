"""Reading a Swin transformer's self-attention: the only place that touches hooks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from torch import Tensor, nn

from hgisam.errors import InputError


@dataclass(frozen=True)
class BlockAttention:
    """Self-attention of one Swin block, with the geometry that leads from its windows back to the image.

    `scores`: [B·nW, heads, N, N] softmax input, query × key. `attention`: the same shape, softmax output, rows sum
    to 1. `window`: (rows, cols) of a window in tokens, N = rows · cols. `shift`: (rows, cols) of the cyclic shift
    in tokens, (0, 0) in W-MSA. `grid`: (rows, cols) of the stage in tokens. `stage`, `block`: counted from 0.
    """

    stage: int
    block: int
    window: tuple[int, int]
    shift: tuple[int, int]
    grid: tuple[int, int]
    scores: Tensor
    attention: Tensor


def find_swin(model: nn.Module) -> SwinTransformer:
    """The one timm Swin that `model` is or contains.

    Raises:
        InputError: If there is none, or more than one.
    """
    found = [module for module in model.modules() if isinstance(module, SwinTransformer)]
    if len(found) != 1:
        raise InputError(
            "model", f"{len(found)} timm Swin transformers in it", "one", "Give a classifier with one Swin."
        )
    return found[0]


def blocks_of(swin: SwinTransformer, stage: int) -> list[SwinTransformerBlock]:
    """The Swin blocks of a stage, counted from 0 (-1 is the last)."""
    layer: Any = swin.layers[stage]
    return list(layer.blocks)


def pair(size: Sequence[int] | torch.Size | int) -> tuple[int, int]:
    """(rows, cols) of a size that may be given as one number."""
    rows, cols = (size, size) if isinstance(size, int) else size
    return int(rows), int(cols)


@contextmanager
def record_attention(model: nn.Module, stages: Sequence[int]) -> Iterator[list[BlockAttention]]:
    """Records scores and attention of every block of the given stages during the forward pass in the `with` block.

    Inside, the model is in evaluation mode and fused attention is off, since it never forms the matrix; afterwards it
    is as it was and no hook remains. The recorded tensors belong to the graph, so gradients can be taken with respect
    to them while it lives.

    Args:
        model: Is or contains one timm Swin.
        stages: Numbers of the stages to record, from 0.

    Yields:
        The list that the forward pass fills, in the order of the blocks.

    Raises:
        InputError: For a stage that the model has not, or if a block was not recorded exactly once.
    """
    swin = find_swin(model)
    if not stages or not set(stages) <= set(range(len(swin.layers))):
        raise InputError("stages", list(stages), f"some of 0 to {len(swin.layers) - 1}", "Name stages of the model.")
    records: list[BlockAttention] = []
    blocks = [(s, b, block) for s in sorted(set(stages)) for b, block in enumerate(blocks_of(swin, s))]
    was_training = {module: module.training for module in model.modules()}
    was_fused = {block.attn: block.attn.fused_attn for _, _, block in blocks}
    handles = []
    try:
        model.eval()
        for stage, number, block in blocks:
            block.attn.fused_attn = False
            hook = _recorder(records, stage, number, block)
            handles.append(block.attn.softmax.register_forward_hook(hook))
        yield records
        if len(records) != len(blocks):
            got = f"recorded attention for {len(records)} of {len(blocks)} blocks"
            raise InputError(
                "attention", got, "one forward pass inside record_attention()", "Call the model once in it."
            )
    finally:
        for handle in handles:
            handle.remove()
        for attention, fused in was_fused.items():
            attention.fused_attn = fused
        for module, training in was_training.items():
            module.training = training


def _recorder(
    records: list[BlockAttention], stage: int, number: int, block: SwinTransformerBlock
) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        records.append(
            BlockAttention(
                stage=stage,
                block=number,
                window=pair(block.window_size),
                shift=pair(block.shift_size),
                grid=pair(block.input_resolution),
                scores=inputs[0],
                attention=output,
            )
        )

    return hook


def attention_gradients(
    model: nn.Module, images: Tensor, target: int, *, stages: Sequence[int], gradient_at: str
) -> tuple[list[BlockAttention], list[Tensor]]:
    """Attention of every block and the gradient of a class's logit there: one forward pass, one through activations.

    Args:
        model: Is or contains one timm Swin, and returns logits [B, classes].
        images: [B, C, H, W].
        target: Class whose raw logit is differentiated.
        stages: Stages to record.
        gradient_at: "scores" (softmax input, as the released code does) or "weights" (softmax output, as the figure of
            its repository says).

    Returns:
        Blocks, detached, and for each the gradient [B·nW, heads, N, N] in float32.

    Raises:
        InputError: For images, a target or a `gradient_at` that do not fit.
    """
    if gradient_at not in {"scores", "weights"}:
        raise InputError("gradient_at", repr(gradient_at), "scores or weights", "Choose one.")
    with torch.enable_grad(), record_attention(model, stages) as blocks:
        logits = checked_logits(model, images.detach().requires_grad_(), target)
    recorded = [block.scores if gradient_at == "scores" else block.attention for block in blocks]
    gradients = torch.autograd.grad(logits[:, target].float().sum(), recorded)
    return blocks, [gradient.float() for gradient in gradients]


def checked_logits(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Logits [B, classes] of `model(images)`, after refusing what would end in an empty map.

    Raises:
        InputError: For images of another shape or with NaN, or a target that is no class.
    """
    swin = find_swin(model)
    patch_embed: Any = swin.patch_embed
    size = pair(patch_embed.img_size)
    if images.ndim != 4 or images.shape[1] != swin.in_chans or pair(images.shape[2:]) != size:
        expected = f"[B, {swin.in_chans}, {size[0]}, {size[1]}]"
        raise InputError("images", f"shape {list(images.shape)}", expected, "Use Checkpoint.images().")
    if not torch.isfinite(images).all():
        raise InputError("images", "values that are not finite", "finite values", "Look for NaN in the input.")
    logits: Tensor = model(images)
    if not 0 <= target < logits.shape[1]:
        raise InputError("target", target, f"a class from 0 to {logits.shape[1] - 1}", "Name a class of the model.")
    return logits

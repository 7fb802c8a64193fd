"""Swin transformers of timm: finding one in a model, the geometry of its blocks, and checked forward passes."""

import numbers
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from torch import Tensor, nn

from hgisam.errors import InputError

Swin = SwinTransformer | SwinTransformerV2 | SwinTransformerV2Cr
# off in inspection mode: dropout, fused attention (never forms the matrix), gradient checkpointing (would record twice)
FLAGS = ("training", "fused_attn", "grad_checkpointing")
FLOAT16_LOGIT_SCALE = 2.0**12  # gradients below 6e-8 vanish in float16


@dataclass(frozen=True, order=True)
class BlockGeometry:
    """Position of a Swin block and geometry of its window partition.

    Attributes:
        stage: Its index from 0, as that of the `block` in it.
        window: (rows, cols) of a window in tokens; N = rows · cols.
        shift: (rows, cols) of the cyclic shift in tokens; (0, 0) in W-MSA.
        grid: (rows, cols) of tokens in the recorded forward pass.
        extent: (rows, cols) that the grid covers, in heights and widths of the image; above 1 where timm padded it.

    Example:
        >>> block = BlockGeometry(stage=0, block=1, window=(7, 7), shift=(3, 3), grid=(56, 56))
        >>> "SW-MSA" if any(block.shift) else "W-MSA"
        'SW-MSA'
    """

    stage: int
    block: int
    window: tuple[int, int]
    shift: tuple[int, int]
    grid: tuple[int, int]
    extent: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)


@dataclass(frozen=True, eq=False)
class BlockAttention(BlockGeometry):
    """Self-attention of one Swin block.

    Attributes:
        scores: [B·nW, heads, N, N] softmax input, query × key; None where it was freed to save memory.
        attention: [B·nW, heads, N, N] softmax output; rows sum to 1.

    Example:
        >>> uniform = torch.full((64, 3, 49, 49), 1 / 49)
        >>> BlockAttention(0, 0, (7, 7), (0, 0), (56, 56), scores=None, attention=uniform).geometry
        BlockGeometry(stage=0, block=0, window=(7, 7), shift=(0, 0), grid=(56, 56), extent=(1.0, 1.0))
    """

    scores: Tensor | None
    attention: Tensor

    @property
    def geometry(self) -> BlockGeometry:
        """The block without its tensors."""
        return BlockGeometry(self.stage, self.block, self.window, self.shift, self.grid, extent=self.extent)


def find_swin(model: nn.Module) -> Swin:
    """Find the one timm Swin (v1, v2 or v2-CR) that `model` is or contains.

    Raises:
        InputError: If there is none, or more than one, or the model is quantised.

    Example:
        >>> swin = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> find_swin(nn.Sequential(swin, nn.Softmax(dim=1))) is swin
        True
    """
    found = [module for module in model.modules() if isinstance(module, Swin)]
    if len(found) != 1:
        got = f"{len(found)} timm Swin transformers in {type(model).__name__}"
        raise InputError("model", got, "one", "Give a classifier with one timm Swin, of version 1, 2 or 2-CR.")
    # a quantised layer has a method in place of its weight, or weights of integers
    if any(callable(getattr(m, "weight", None)) for m in model.modules()) or any(
        not parameter.is_floating_point() for parameter in model.parameters()
    ):
        raise InputError("model", "a quantised one", "floating-point weights", "Use it as it was before quantisation.")
    return found[0]


def stages_of(swin: Swin) -> list[Any]:
    """Stages of a Swin, fine to coarse."""
    return list(swin.stages if isinstance(swin, SwinTransformerV2Cr) else swin.layers)


def block_of(swin: Swin, stage: int, block: int) -> Any:
    """A Swin block by its indices, from 0."""
    return stages_of(swin)[stage].blocks[block]


def block_indices(swin: Swin, stages: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, block) of every block of some stages, in forward order; an InputError for no stage or an unknown one."""
    depths = [len(stage.blocks) for stage in stages_of(swin)]
    if not stages or not set(stages) <= set(range(len(depths))):
        expected = f"some of 0 to {len(depths) - 1}"
        raise InputError("stages", list(stages), expected, "Choose stages of the model, from 0.")
    return [(stage, block) for stage in sorted(set(stages)) for block in range(depths[stage])]


def resolve_index(swin: Swin, stage: int, block: int) -> tuple[int, int]:
    """(stage, block) from 0, where -1 was allowed for the last; an InputError for a block that does not exist."""
    depths = [len(stage.blocks) for stage in stages_of(swin)]
    for what, got, count in (("stage", stage, len(depths)), ("block", block, depths[stage % len(depths)])):
        if not -count <= got < count:
            raise InputError(what, got, f"0 to {count - 1}, or -1 for the last", f"Choose a {what} of the model.")
    return stage % len(depths), block % depths[stage]


def pair(size: Sequence[int] | torch.Size | int) -> tuple[int, int]:
    """(rows, cols) of a size that may be one number."""
    rows, cols = (size, size) if isinstance(size, int) else size
    return int(rows), int(cols)


def geometry_of(swin: Swin, stage: int, block: int, grid: tuple[int, int], size: tuple[int, int]) -> BlockGeometry:
    """Geometry of a block with `grid` tokens, for an image of `size` pixels."""
    module = block_of(swin, stage, block)
    embed: Any = swin.patch_embed
    token_px = [px * 2**stage for px in pair(embed.patch_size)]
    rows, cols = (tokens * px / side for tokens, px, side in zip(grid, token_px, size, strict=True))
    return BlockGeometry(stage, block, pair(module.window_size), pair(module.shift_size), grid, extent=(rows, cols))


def check_images(images: Tensor) -> None:
    """Raise an InputError unless images are [B, C, H, W] of finite floats with B ≥ 1."""
    if images.ndim != 4 or images.shape[0] == 0 or not images.is_floating_point():
        got = f"shape {list(images.shape)} of {images.dtype}"
        raise InputError("images", got, "[B, C, H, W] of floats with B ≥ 1", "Stack standardised slices.")
    check_finite("images", images, "Look for NaN in the input.")


def check_finite(what: str, tensor: Tensor, remedy: str) -> None:
    """Raise an InputError for NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise InputError(what, "values that are not finite", "finite values", remedy)


def check_swin_input(swin: Swin, images: Tensor) -> None:
    """Raise an InputError for channels or sizes that do not fit the Swin, whose wrapper may change its input first."""
    embed: Any = swin.patch_embed
    patch, channels, size = pair(embed.patch_size), int(embed.proj.in_channels), pair(images.shape[2:])
    if embed.strict_img_size:
        fits, expected = size == pair(embed.img_size), "{}, {}".format(*pair(embed.img_size))
    else:
        fits = not any(side % px for side, px in zip(size, patch, strict=True)) and 0 not in size
        expected = "multiple of {}, multiple of {}".format(*patch)
    if not fits or images.shape[1] != channels:
        remedy = "Resize the images, or build the Swin with their size (img_size) or for any size (dynamic_img_size)."
        got = f"shape {list(images.shape)} at the Swin"
        raise InputError("images", got, f"[B, {channels}, {expected}]", remedy)


@contextmanager
def inspection_mode(model: nn.Module) -> Iterator[ExitStack]:
    """Evaluation mode with frozen parameters and attention that can be recorded; afterwards the model is as it was.

    What is compiled runs uncompiled, since a compiled module skips hooks. Yields a stack for the removal of hooks. An
    InputError under `torch.inference_mode`, which forbids gradients.
    """
    parameters = list(model.parameters())
    if torch.is_inference_mode_enabled() or any(parameter.is_inference() for parameter in parameters):
        remedy = "Use torch.no_grad(), or nothing: maps switch gradients on where they need them."
        raise InputError("torch.inference_mode", "a model or a call inside it", "no inference mode", remedy)
    before: list[tuple[Any, str, bool]] = [(p, "requires_grad", p.requires_grad) for p in parameters]
    before += [(m, flag, getattr(m, flag)) for m in model.modules() for flag in FLAGS if hasattr(m, flag)]
    try:
        for owner, name, _ in before:
            setattr(owner, name, False)
        with ExitStack() as callbacks:
            if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
                callbacks.enter_context(torch.compiler.set_stance("force_eager"))
            yield callbacks
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def target_logit(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Raw logit [B] of a class, float32 or better; an InputError for a model, images, logits or class that do not fit.

    The model returns logits [B, classes], or one logit, [B, 1] or [B], whose class is 0.
    """
    check_images(images)
    logits = _output(model, images)
    if isinstance(logits, Tensor) and logits.ndim == 1:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != images.shape[0] or not logits.shape[1]:
        got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError("logits", got, f"[{images.shape[0]}, classes]", "Wrap the model so that it returns logits.")
    classes = logits.shape[1]
    index: Any = target  # may be of any type at run time
    if type(index) is bool or not isinstance(index, numbers.Integral) or index not in range(classes):
        expected = f"an integer from 0 to {classes - 1}" if classes > 1 else "0, since the head has one logit"
        raise InputError("target", repr(target), expected, "Choose a class of the model.")
    check_finite("logits", logits, "Use bfloat16 or float32.")
    logit: Tensor = logits[:, target]
    return upcast(logit)


def _output(model: nn.Module, images: Tensor) -> Any:
    """Output of a model; an InputError for a Swin without a head, and for dtypes or devices that differ."""
    for swin in model.modules():
        headless = isinstance(swin, Swin) and isinstance(getattr(swin.head, "fc", None), nn.Identity)
        if headless and len(list(swin.parameters())) == len(list(model.parameters())):
            remedy = "Build it with num_classes, or put a trained head behind it."
            raise InputError("model", "a Swin without a head, which returns features", "a classifier", remedy)
    try:
        return model(images)
    except RuntimeError as error:
        kinds = {f"{str(t.dtype)[6:]} on {t.device}" for t in (images, *model.parameters())}
        if len(kinds) == 1 or not ("type" in str(error) or "device" in str(error)):
            raise
        remedy = "Convert one of them with .to(), or use torch.autocast."
        raise InputError("model and images", ", ".join(sorted(kinds)), "one dtype and device", remedy) from error


def logit_scale(model: nn.Module, images: Tensor) -> float:
    """Factor on the logit before the backward pass, as in loss scaling; 1 without float16 weights or autocast."""
    device = images.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
    return FLOAT16_LOGIT_SCALE if autocast or any(p.dtype is torch.float16 for p in model.parameters()) else 1.0


def upcast(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are, not copied."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

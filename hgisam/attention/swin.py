"""Finding the Swin in a model, calling the model with care, and the geometry from windows back to the image."""

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
# what is off while we look: dropout, fused attention (it never forms the matrix), recomputation (it would record twice)
FLAGS = ("training", "fused_attn", "grad_checkpointing")
HALF_SCALE = 2.0**12  # of the logit under float16, whose gradients vanish below 6e-8


@dataclass(frozen=True, order=True)
class BlockGeometry:
    """Where a Swin block stands, and how its windows were cut.

    `window`: (rows, cols) of a window in tokens, N = rows · cols. `shift`: (rows, cols) of the cyclic shift in tokens,
    (0, 0) in W-MSA. `grid`: (rows, cols) of tokens that the block really met. `stage`, `block`: counted from 0.
    `extent`: (rows, cols) of what the grid covers, in sides of the image; above 1 where timm padded odd grids.
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

    `scores`: [B·nW, heads, N, N] softmax input, query × key; None where it was let go to save memory. `attention`: the
    same shape, softmax output, rows sum to 1.
    """

    scores: Tensor | None
    attention: Tensor

    @property
    def place(self) -> BlockGeometry:
        """The block without its tensors."""
        return BlockGeometry(self.stage, self.block, self.window, self.shift, self.grid, extent=self.extent)


def find_swin(model: nn.Module) -> Swin:
    """The one timm Swin (v1, v2 or v2-CR) that `model` is or contains.

    Raises:
        InputError: If there is none, or more than one.
    """
    found = [module for module in model.modules() if isinstance(module, Swin)]
    if len(found) != 1:
        got = f"{len(found)} timm Swin transformers in {type(model).__name__}"
        raise InputError("model", got, "one", "Give a classifier with one timm Swin, of version 1, 2 or 2-CR.")
    return found[0]


def stages_of(swin: Swin) -> list[Any]:
    """The stages of a Swin, fine to coarse."""
    return list(swin.stages if isinstance(swin, SwinTransformerV2Cr) else swin.layers)


def patch_embed_of(swin: Swin) -> Any:
    """The module that cuts the image into patches."""
    return swin.patch_embed


def block_of(swin: Swin, stage: int, number: int) -> Any:
    """A Swin block by its stage and its number there, from 0."""
    return stages_of(swin)[stage].blocks[number]


def numbers_of(swin: Swin, stages: Sequence[int]) -> list[tuple[int, int]]:
    """(stage, number) of every block of some stages, in the order in which they run.

    Raises:
        InputError: For no stage, or one that the model has not.
    """
    depths = [len(stage.blocks) for stage in stages_of(swin)]
    if not stages or not set(stages) <= set(range(len(depths))):
        expected = f"some of 0 to {len(depths) - 1}"
        raise InputError("stages", list(stages), expected, "Name stages of the model, counted from 0.")
    return [(stage, number) for stage in sorted(set(stages)) for number in range(depths[stage])]


def index_of(swin: Swin, stage: int, number: int) -> tuple[int, int]:
    """(stage, number) of a block, from 0, where -1 may have stood for the last.

    Raises:
        InputError: For a block that the model has not.
    """
    depths = [len(stage.blocks) for stage in stages_of(swin)]
    for what, got, count in (("stage", stage, len(depths)), ("block", number, depths[stage % len(depths)])):
        if not -count <= got < count:
            raise InputError(what, got, f"one from 0 to {count - 1}, or -1 for the last", "Name one of the model.")
    return stage % len(depths), number % depths[stage]


def pair(size: Sequence[int] | torch.Size | int) -> tuple[int, int]:
    """(rows, cols) of a size that may be given as one number."""
    rows, cols = (size, size) if isinstance(size, int) else size
    return int(rows), int(cols)


def geometry_of(swin: Swin, stage: int, number: int, grid: tuple[int, int], size: tuple[int, int]) -> BlockGeometry:
    """Geometry of a block that met `grid` tokens of an image of `size` pixels."""
    block, embed = block_of(swin, stage, number), patch_embed_of(swin)
    token_px = [px * 2**stage for px in pair(embed.patch_size)]
    rows, cols = (tokens * px / side for tokens, px, side in zip(grid, token_px, size, strict=True))
    return BlockGeometry(stage, number, pair(block.window_size), pair(block.shift_size), grid, extent=(rows, cols))


def check_images(images: Tensor) -> None:
    """Refuses what no Swin could read.

    Raises:
        InputError: For images that are not [B, C, H, W], finite and at least one.
    """
    if images.ndim != 4 or images.shape[0] == 0 or not images.is_floating_point():
        got = f"shape {list(images.shape)} of {images.dtype}"
        raise InputError("images", got, "[B, C, H, W] of floats with B ≥ 1", "Stack standardised slices.")
    if not torch.isfinite(images).all():
        raise InputError("images", "values that are not finite", "finite values", "Look for NaN in the input.")


def check_swin_input(swin: Swin, images: Tensor) -> None:
    """Refuses channels and sizes that do not fit the Swin; what reaches it may differ from what its wrapper was given.

    Raises:
        InputError: For another channel count, or a size that the Swin cannot cut into patches.
    """
    embed = patch_embed_of(swin)
    patch, channels = pair(embed.patch_size), int(embed.proj.in_channels)
    size = pair(images.shape[2:])
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
    """Evaluation mode, frozen parameters, attention that can be recorded; afterwards the model is as it was.

    Yields:
        A stack of callbacks that are called at the end: give it the removal of every hook.

    Raises:
        InputError: Under `torch.inference_mode`, whose tensors can never have gradients.
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
        with ExitStack() as hooks:
            yield hooks
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def target_logit(model: nn.Module, images: Tensor, target: int) -> Tensor:
    """Raw logit [B] of a class, float32 or better, after refusing what would end in an empty map.

    Args:
        model: Is or contains one timm Swin, and returns logits [B, classes]; or one logit, [B, 1] or [B].
        images: [B, C, H, W].
        target: A class; of one logit 0, which speaks for the class where it is positive.

    Raises:
        InputError: For images that do not fit, logits of another shape or not finite, or a target that is no class.
    """
    check_images(images)
    logits: Any = getattr(model, "_orig_mod", model)(images)  # torch.compile would overlook the hooks
    if isinstance(logits, Tensor) and logits.ndim == 1:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != images.shape[0] or not logits.shape[1]:
        got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError("logits", got, f"[{images.shape[0]}, classes]", "Wrap the model so that it returns logits.")
    classes = logits.shape[1]
    if not _is_class(target, classes):
        expected = f"an integer from 0 to {classes - 1}" if classes > 1 else "0, since the head has one logit"
        raise InputError("target", repr(target), expected, "Name a class of the model.")
    if not torch.isfinite(logits).all():
        raise InputError("logits", "values that are not finite", "finite values", "Use bfloat16 or float32.")
    logit: Tensor = logits[:, target]
    return at_least_float32(logit)


def _is_class(target: object, classes: int) -> bool:
    whole = isinstance(target, numbers.Integral) and not isinstance(target, bool)
    return whole and target in range(classes)


def logit_scale(model: nn.Module, images: Tensor) -> float:
    """What to multiply a logit with before the backward pass; 1 but under float16, by autocast or of the weights."""
    device = images.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
    return HALF_SCALE if autocast or any(p.dtype is torch.float16 for p in model.parameters()) else 1.0


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay as they are, uncopied."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

"""The Swin transformer in a model: finding it, the geometry of its blocks, and checked forward passes."""

import numbers
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from hgisam.adapters.protocol import Size, SwinAdapter, check_head, find_adapter
from hgisam.adapters.wrappers import call, refuse_wrappers
from hgisam.errors import InputError

Logit = Callable[[Any], Tensor]  # output of a model → logits [B, classes]
FLOAT16_LOGIT_SCALE = 2.0**12  # gradients below 6e-8 vanish in float16


@dataclass(frozen=True, order=True)
class BlockGeometry:
    """Position of a Swin block and geometry of its window partition.

    Attributes:
        stage: Its index from 0, as that of the `block` in it.
        window: (rows, cols) of a window in tokens, (slices, rows, cols) in three dimensions; N is their product.
        shift: That of the cyclic shift in tokens; zeros in W-MSA.
        grid: That of the tokens in the recorded forward pass.
        extent: That which the grid covers, in heights and widths of the image; above 1 where the Swin padded it.
        pads_first: Whether the grid is padded to whole windows before its shift, or after it, as in timm.

    Example:
        >>> block = BlockGeometry(stage=0, block=1, window=(7, 7), shift=(3, 3), grid=(56, 56))
        >>> "SW-MSA" if any(block.shift) else "W-MSA"
        'SW-MSA'
    """

    stage: int
    block: int
    window: tuple[int, ...]
    shift: tuple[int, ...]
    grid: tuple[int, ...]
    extent: tuple[float, ...] = field(default=(1.0, 1.0), kw_only=True)
    pads_first: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class BlockAttention(BlockGeometry):
    """Self-attention of one Swin block.

    Attributes:
        scores: [B·nW, heads, N, N] softmax input, query × key; None where it was freed to save memory.
        attention: [B·nW, heads, N, N] softmax output; rows sum to 1.

    Example:
        >>> uniform = torch.full((64, 3, 49, 49), 1 / 49)
        >>> BlockAttention(0, 0, (7, 7), (0, 0), (56, 56), scores=None, attention=uniform).geometry.grid
        (56, 56)
    """

    scores: Tensor | None
    attention: Tensor

    @property
    def geometry(self) -> BlockGeometry:
        """The block without its tensors."""
        return BlockGeometry(**{each.name: getattr(self, each.name) for each in fields(BlockGeometry)})


def find_swin(model: nn.Module) -> nn.Module:
    """Find the one Swin of timm, torchvision, transformers or MONAI that `model` is or contains.

    Raises:
        InputError: If there is none, or more than one, or the model is wrapped in a way that hides it.

    Example:
        >>> from timm.models import SwinTransformer
        >>> swin = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> find_swin(nn.Sequential(swin, nn.Softmax(dim=1))) is swin
        True
    """
    refuse_wrappers(model)
    swin: nn.Module = find_adapter(model).swin
    return swin


def spatial_size(images: Tensor) -> tuple[int, ...]:
    """(rows, cols) of images [B, C, H, W]; (slices, rows, cols) of volumes [B, C, D, H, W]."""
    return tuple(images.shape[2:])


def geometry_of(swin: SwinAdapter, stage: int, block: int, grid: Size, size: Size) -> BlockGeometry:
    """Geometry of a block with `grid` tokens, for an image of `size` pixels."""
    window, shift = swin.partition(swin.stages[stage][block], grid)
    token_px = (px * 2**stage for px in swin.patch_size)
    extent = tuple(tokens * px / side for tokens, px, side in zip(grid, token_px, size, strict=True))
    return BlockGeometry(stage, block, window, shift, grid, extent=extent, pads_first=swin.pads_first)


def check_images(images: Tensor) -> None:
    """Raise an InputError unless images are [B, C, H, W], or volumes [B, C, D, H, W], of finite floats with B ≥ 1."""
    tensor: Any = images  # may be of any type at run time
    known = isinstance(tensor, Tensor)
    dense = known and not images.is_meta and images.layout is torch.strided
    if not dense or images.ndim not in (4, 5) or images.shape[0] == 0 or not images.is_floating_point():
        got = f"shape {list(images.shape)} of {images.dtype}" if known else f"a {type(tensor).__name__}"
        got += "" if dense or not known else f", {images.layout} on {images.device}"
        expected = "a tensor [B, C, H, W], or of volumes [B, C, D, H, W], dense, of floats with B ≥ 1"
        raise InputError("images", got, expected, "Use torch.stack on standardised slices or volumes.")
    check_finite("images", images, "Look for NaN in the input.")


def check_finite(what: str, tensor: Tensor, remedy: str) -> None:
    """Raise an InputError for NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise InputError(what, "values that are not finite", "finite values", remedy)


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
    settings: list[tuple[Any, str, Any]] = [(parameter, "requires_grad", False) for parameter in parameters]
    settings += [(module, "training", False) for module in model.modules()]
    settings += find_adapter(model).settings()
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        with ExitStack() as callbacks:
            if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
                callbacks.enter_context(torch.compiler.set_stance("force_eager"))
            yield callbacks
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def target_logit(model: nn.Module, images: Tensor, target: int, logit: Logit | None = None) -> Tensor:
    """Raw logit [B] of a class, float32 or better; an InputError for a model, images, logits or class that do not fit.

    The model returns logits [B, classes], or one logit, [B, 1] or [B], whose class is 0; or an object with them as
    `.logits`; or anything else, of which `logit` makes them.
    """
    check_images(images)
    given: Any = logit  # may be of any type at run time
    if given is None:
        check_head(model)
    elif not callable(given):
        raise InputError("logit", f"a {type(given).__name__}", "a function of the model's output", "Use a lambda.")
    output = _output(model, images)
    logits = logit(output) if logit else getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 1:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != images.shape[0] or not logits.shape[1]:
        got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        remedy = "Wrap the model so that it returns logits, or give logit=, a function of its output that does."
        raise InputError("logits", got, f"[{images.shape[0]}, classes]", remedy)
    classes = logits.shape[1]
    index: Any = target  # may be of any type at run time
    if type(index) is bool or not isinstance(index, numbers.Integral) or index not in range(classes):
        expected = f"an integer from 0 to {classes - 1}" if classes > 1 else "0, since the head has one logit"
        raise InputError("target", repr(target), expected, "Choose a class of the model.")
    check_finite("logits", logits, "Use bfloat16 or float32.")
    return upcast(logits[:, target])


def _output(model: nn.Module, images: Tensor) -> Any:
    """Output of a model; an InputError for dtypes or devices that differ."""
    try:
        return call(model, images)
    except RuntimeError as error:
        kinds = {f"{str(t.dtype)[6:]} on {t.device}" for t in (images, *model.parameters())}
        if len(kinds) == 1 or not ("type" in str(error) or "device" in str(error)):
            raise
        remedy = "Convert one of them with .to(), or use torch.autocast."
        raise InputError("model and images", ", ".join(sorted(kinds)), "one dtype and device", remedy) from error


def logit_scale(model: nn.Module, images: Tensor) -> float:
    """Factor on the logit before the backward pass, as in loss scaling; 1 without float16 weights or autocast."""
    check_images(images)
    device = images.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
    return FLOAT16_LOGIT_SCALE if autocast or any(p.dtype is torch.float16 for p in model.parameters()) else 1.0


def upcast(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are, not copied."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

"""Checked forward passes of a model that is left as it was: evaluation mode, frozen parameters, one raw logit."""

import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hgisam.errors import InputError

Logit = Callable[[Any], Tensor]
# off in inspection mode: dropout, fused attention (never forms the matrix), gradient checkpointing (would record twice)
FLAGS = (
    "training", "fused_attn", "use_flash_attention", "grad_checkpointing", "gradient_checkpointing", "use_checkpoint",
)  # fmt: skip
FLOAT16_LOGIT_SCALE = 2.0**12  # gradients below 6e-8 vanish in float16
REFUSED = {  # classes that hide their modules or their weights → what they are called, what to give instead
    "ScriptModule": ("a scripted or traced one", "the Python module that was scripted or traced"),
    "GraphModule": ("a graph of torch.fx or torch.export", "the Python module that was traced"),
    "DataParallel": ("DataParallel inside another module", "a model that is wrapped as a whole, or its .module"),
    "DistributedDataParallel": ("DistributedDataParallel inside another", "a model wrapped as a whole, or its .module"),
    "FullyShardedDataParallel": ("shards (FSDP)", "an unsharded copy with the full state dict"),
    "FSDPModule": ("shards (FSDP)", "an unsharded copy with the full state dict"),
    "CheckpointWrapper": ("checkpoint_wrapper", "the model without activation checkpointing, which runs blocks twice"),
}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel and DistributedDataParallel: its replicas and gradient buckets are not touched."""
    while isinstance(model, nn.DataParallel | DistributedDataParallel):
        model = model.module
    return model


def check_model(model: nn.Module) -> None:
    """Raise an InputError that names what hides a model's modules or weights: scripting, shards, quantisation, meta."""
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in REFUSED:
                got, expected = REFUSED[kind.__name__]
                raise InputError("model", got, expected, "Maps read each block's attention in Python.")
    # a quantised layer has a method in place of its weight, or weights of integers
    parameters = list(model.parameters())
    methods = any(callable(getattr(m, "weight", None)) for m in model.modules())
    if methods or any(not parameter.is_floating_point() for parameter in parameters):
        raise InputError("model", "a quantised one", "floating-point weights", "Use it as it was before quantisation.")
    if any(parameter.is_meta for parameter in parameters):
        raise InputError("model", "weights on the meta device", "weights with values", "Load the weights first.")


@contextmanager
def inspection_mode(model: nn.Module, settings: Sequence[tuple[Any, str, Any]] = ()) -> Iterator[ExitStack]:
    """Evaluation mode with frozen parameters and attention that can be recorded; afterwards the model is as it was.

    What is compiled runs uncompiled, since a compiled module skips hooks. Yields a stack for the removal of hooks. An
    InputError under `torch.inference_mode`, which forbids gradients.

    Args:
        model: The model.
        settings: (object, attribute, value inside) of its library.
    """
    parameters = list(model.parameters())
    if torch.is_inference_mode_enabled() or any(parameter.is_inference() for parameter in parameters):
        remedy = "Use torch.no_grad(), or nothing: maps switch gradients on where they need them."
        raise InputError("torch.inference_mode", "a model or a call inside it", "no inference mode", remedy)
    inside: list[tuple[Any, str, Any]] = [(p, "requires_grad", False) for p in parameters]
    inside += [(m, flag, False) for m in model.modules() for flag in FLAGS if hasattr(m, flag)]
    inside += settings
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in inside]
    try:
        for owner, name, value in inside:
            setattr(owner, name, value)
        with ExitStack() as callbacks:
            if any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()):
                callbacks.enter_context(torch.compiler.set_stance("force_eager"))
            yield callbacks
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def check_images(images: Tensor) -> None:
    """Raise an InputError unless images are [B, C, H, W] or [B, C, D, H, W] of finite floats with B ≥ 1."""
    if images.ndim not in (4, 5) or images.shape[0] == 0 or not images.is_floating_point():
        got = f"shape {list(images.shape)} of {images.dtype}"
        expected = "[B, C, H, W] or [B, C, D, H, W] of floats with B ≥ 1"
        raise InputError("images", got, expected, "Stack standardised slices or volumes.")
    check_finite("images", images, "Look for NaN in the input.")


def check_finite(what: str, tensor: Tensor, remedy: str) -> None:
    """Raise an InputError for NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise InputError(what, "values that are not finite", "finite values", remedy)


def target_logit(model: nn.Module, images: Tensor, target: int, logit: Logit | None = None) -> Tensor:
    """Raw logit [B] of a class, float32 or better; an InputError for a model, images, logits or class that do not fit.

    The model returns logits [B, classes], or one logit, [B, 1] or [B], whose class is 0; or an object with such
    `logits`; or anything that `logit` turns into them.
    """
    check_images(images)
    output = _output(model, images)
    logits = logit(output) if logit else getattr(output, "logits", output)
    if isinstance(logits, Tensor) and logits.ndim == 1:
        logits = logits[:, None]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != images.shape[0] or not logits.shape[1]:
        got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        remedy = "Give logit=, a function from the model's output to its logits."
        raise InputError("logits", got, f"[{images.shape[0]}, classes]", remedy)
    classes = logits.shape[1]
    index: Any = target  # may be of any type at run time
    if type(index) is bool or not isinstance(index, numbers.Integral) or index not in range(classes):
        expected = f"an integer from 0 to {classes - 1}" if classes > 1 else "0, since the head has one logit"
        raise InputError("target", repr(target), expected, "Choose a class of the model.")
    check_finite("logits", logits, "Use bfloat16 or float32.")
    found: Tensor = logits[:, target]
    return upcast(found)


def _output(model: nn.Module, images: Tensor) -> Any:
    """Output of a model; an InputError for dtypes or devices that differ, and for what the model itself refuses."""
    try:
        return model(images)
    except InputError:
        raise
    except ValueError as error:
        got = f"shape {list(images.shape)}, and {type(model).__name__} says “{error}”"
        raise InputError("images", got, "a shape that the model takes", "Resize or pad them.") from error
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

"""Wrapped models: understood, or refused by name with what to do."""

from inspect import signature
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hgisam.errors import InputError

REFUSED = {  # class of the wrapper → what it makes of the model, remedy
    "ScriptModule": ("a scripted one (torch.jit)", "Use it as it was before torch.jit."),
    "GraphModule": ("a traced graph (torch.fx)", "Use it as it was before tracing or export."),
    "FullyShardedDataParallel": ("one in shards (FSDP)", "Load its weights into a model that is not sharded."),
    "FSDPModule": ("one in shards (FSDP)", "Load its weights into a model that is not sharded."),
    "DataParallel": ("DataParallel inside it", "Take the module out of DataParallel."),
    "DistributedDataParallel": ("DDP inside it", "Take the module out of DistributedDataParallel."),
    "CheckpointWrapper": ("gradient checkpointing by CheckpointWrapper", "Build the model without it."),
}  # fmt: skip


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel or DistributedDataParallel: a map needs one copy and no communication."""
    return unwrapped(model.module) if isinstance(model, DataParallel | DistributedDataParallel) else model


def call(model: nn.Module, images: Tensor) -> Any:
    """Output of the model without its wrapper.

    An InputError if it takes more or less than images, and where MONAI's SwinUNETR refuses a size before its Swin.
    """
    model = unwrapped(model)
    given = signature(model.forward)
    try:
        given.bind(images)
        takes_images = getattr(model.forward, "__func__", None) is not nn.Module.forward  # that of ModuleDict
    except TypeError:
        takes_images = False
    if not takes_images:
        remedy = "Wrap it in a module that gives it the rest."
        raise InputError("model", f"{type(model).__name__} with forward{given}", "forward(images)", remedy)
    try:
        return model(images)
    except ValueError as error:
        if isinstance(error, InputError) or "divisible" not in str(error):
            raise
        got, expected = f"shape {list(images.shape)}", f"a size that fits: {error}".rstrip(".")
        raise InputError("images", got, expected, "Pad or resize the images.") from error


def refuse_wrappers(model: nn.Module) -> None:
    """Raise an InputError for a model whose attention can't be recorded, or not differentiated.

    torch.compile, DataParallel, DistributedDataParallel, PEFT and the gradient checkpointing of the libraries are
    understood.
    """
    given: Any = model  # may be of any type at run time
    if not isinstance(given, nn.Module):
        remedy = "Build the network and load its weights into it."
        raise InputError("model", f"a {type(given).__name__}", "an nn.Module", remedy)
    modules = list(unwrapped(model).modules())
    names = {cls.__name__ for kind in {type(module) for module in modules} for cls in kind.__mro__}
    for name, (got, remedy) in REFUSED.items():
        if name in names:
            raise InputError("model", got, "a plain nn.Module", remedy)
    parameters = list(model.parameters())
    if any(parameter.is_meta for parameter in parameters):
        remedy = "Build it on a device, then load its weights."
        raise InputError("model", "weights on the meta device, without values", "weights", remedy)
    # a quantised layer has a method in place of its weight, or weights of integers
    if any(isinstance(getattr(module, "weight", None), MethodType) for module in modules) or any(
        not parameter.is_floating_point() for parameter in parameters
    ):
        raise InputError("model", "a quantised one", "floating-point weights", "Use it as it was before quantisation.")

"""Device and precision of a network's computations."""

import contextlib
import ctypes
from functools import cache

import torch

from hgisam.errors import InputError


def choose_device(accelerator: str = "auto") -> torch.device:
    """Choose a device: "cpu", "gpu", or "auto" for a GPU if there is one. On a CPU, keep freed memory.

    Raises:
        InputError: If a GPU is required and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("compute.accelerator", "gpu without any", "a CUDA device", "Use compute.accelerator=auto.")
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator == "auto" and torch.backends.mps.is_available():
        return torch.device("mps")
    keep_freed_memory()
    return torch.device("cpu")


def usable_precision(precision: str, device: torch.device) -> str:
    """The precision, or "32-true" for bfloat16 on a CPU that only emulates it: 15 times slower than float32."""
    native = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)()  # False where it is absent, as on macOS
    return "32-true" if precision == "bf16-mixed" and device.type == "cpu" and not native else precision


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context of a precision that `usable_precision` grants: "32-true", "bf16-mixed" or "16-mixed"."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(usable_precision(precision, device))
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory, else each large tensor is mapped and zeroed anew: a third of a training step."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX of malloc.h
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD

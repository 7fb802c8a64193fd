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
        remedy = "Use compute.accelerator=auto."
        raise InputError("compute.accelerator", "gpu on a machine without", "a CUDA device", remedy)
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator == "auto" and torch.backends.mps.is_available():
        return torch.device("mps")
    keep_freed_memory()
    return torch.device("cpu")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context of a precision: "32-true", "bf16-mixed" or "16-mixed"."""
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step; without glibc, do nothing.

    By default each large tensor is a new memory mapping, which the system fills with zeros page by page: a third of the
    time of a training step on the CPU.
    """
    trim_threshold, mmap_max = -1, -4  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)

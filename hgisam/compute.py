"""What a run computes on."""

import contextlib
import ctypes

import lightning
import torch

from hgisam.errors import InputError
from hgisam.profile import Compute


def make_fabric(compute: Compute) -> lightning.Fabric:
    """Fabric on one device of the kind that the profile asks for; on a CPU this process keeps its freed memory.

    Raises:
        InputError: If the profile asks for a GPU and there is none.
    """
    if compute.accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError(
            "compute.accelerator", "gpu on a machine without", "a CUDA device", "Use compute.accelerator=auto."
        )
    fabric = lightning.Fabric(accelerator=compute.accelerator, devices=1, precision=compute.precision)
    if fabric.device.type == "cpu":
        _keep_freed_memory()
    return fabric


def _keep_freed_memory() -> None:
    """Asks glibc to keep what is freed for the next step.

    By default each large tensor is a mapping of its own: returned to the system when freed, and filled with zeros, page
    by page, when asked for again, a third of the time of a training step on the CPU. Elsewhere than on glibc nothing
    happens.
    """
    trim_threshold, mmap_max = -1, -4  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)

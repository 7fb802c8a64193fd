"""What a run computes on."""

import contextlib
import ctypes
import shutil

import lightning
import torch
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.strategy import Strategy

from hgisam.config.profile import Compute
from hgisam.errors import InputError


def make_fabric(compute: Compute, *, processes: bool = False, some_unused: bool = False) -> lightning.Fabric:
    """Fabric of the kind that the profile asks for; on a CPU this process keeps its freed memory.

    Args:
        compute: The section of the profile.
        processes: Whether this is one of `compute.devices` × `compute.nodes` processes that train together; otherwise
            it computes on one device alone.
        some_unused: Whether the loss does not depend on all weights all the time.

    Raises:
        InputError: If the profile asks for GPUs that are not there, or to compile without a compiler.
    """
    found = torch.cuda.device_count()
    devices, nodes = (compute.devices, compute.nodes) if processes else (1, 1)
    if compute.accelerator == "gpu" and not found:
        remedy = "Use compute.accelerator=auto."
        raise InputError("compute.accelerator", "gpu on a machine without", "a CUDA device", remedy)
    on_gpu = compute.accelerator != "cpu" and found > 0
    if on_gpu and devices > found:
        raise InputError("compute.devices", devices, f"at most the {found} GPUs of this machine", "Lower it.")
    if processes and compute.compile and not on_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        remedy = "Install one (Debian, Ubuntu: apt install g++), or use compute.compile=false."
        raise InputError("compute.compile", "true without a C++ compiler", "g++ or clang++", remedy)
    strategy: str | Strategy = "auto"
    if devices * nodes > 1:
        strategy = DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo", find_unused_parameters=some_unused)
    fabric = lightning.Fabric(
        accelerator=compute.accelerator, devices=devices, num_nodes=nodes, strategy=strategy,
        precision=compute.precision,
    )  # fmt: skip
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

"""Lightning Fabric of a training: devices, processes, precision."""

import shutil

import lightning
import torch
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.strategy import Strategy

from hgisam.config.profile import Compute
from hgisam.errors import InputError
from hgisam.models.device import choose_device


def make_fabric(compute: Compute, *, some_unused: bool = False) -> lightning.Fabric:
    """Fabric of the `compute.devices` × `compute.nodes` processes that train together, of which this is one.

    Args:
        compute: The section of the profile.
        some_unused: Whether the loss does not depend on all weights all the time.

    Raises:
        InputError: If the profile demands GPUs that are not there, or compilation without a compiler.
    """
    device = choose_device(compute.accelerator)
    on_gpu = device.type == "cuda"
    found, devices, nodes = torch.cuda.device_count(), compute.devices, compute.nodes
    if on_gpu and devices > found:
        raise InputError("compute.devices", devices, f"at most the {found} GPUs of this machine", "Lower it.")
    if compute.compile and not on_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        remedy = "Install one (Debian, Ubuntu: apt install g++), or use compute.compile=false."
        raise InputError("compute.compile", "true without a C++ compiler", "g++ or clang++", remedy)
    strategy: str | Strategy = "auto"
    if devices * nodes > 1:
        strategy = DDPStrategy(process_group_backend="nccl" if on_gpu else "gloo", find_unused_parameters=some_unused)
    return lightning.Fabric(
        accelerator=device.type, devices=devices, num_nodes=nodes, strategy=strategy,
        precision=compute.precision,
    )  # fmt: skip

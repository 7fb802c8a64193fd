"""Lightning Fabric of a training: devices, data-parallel processes, precision."""

import shutil
from typing import Any

import torch

from hgisam.config.profile import Compute
from hgisam.errors import InputError
from hgisam.models.device import choose_device, usable_precision


def make_fabric(compute: Compute, *, find_unused_parameters: bool = False) -> Any:
    """`lightning.Fabric` of this process, one of `devices` × `nodes` of `compute`; `find_unused_parameters` as in DDP.

    Raises:
        InputError: If the profile requires GPUs that are not there, or compilation without a compiler.
    """
    import lightning  # takes seconds, and maps need none
    from lightning.fabric.strategies.ddp import DDPStrategy

    device = choose_device(compute.accelerator)
    on_gpu, devices, nodes = device.type == "cuda", compute.devices, compute.nodes
    if on_gpu and devices > (found := torch.cuda.device_count()):
        raise InputError("compute.devices", devices, f"at most the {found} GPUs of this machine", "Lower it.")
    if compute.compile and not on_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        remedy = "Install one (Debian, Ubuntu: apt install g++), or use compute.compile=false."
        raise InputError("compute.compile", "true without a C++ compiler", "g++ or clang++", remedy)
    strategy: Any = "auto"
    if devices * nodes > 1:
        backend = "nccl" if on_gpu else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=find_unused_parameters)
    precision: Any = usable_precision(compute.precision, device)
    return lightning.Fabric(
        accelerator=device.type, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision
    )

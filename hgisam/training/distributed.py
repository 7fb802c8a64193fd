"""Data-parallel training: one process per device, on one machine or several."""

import os
import signal
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hgisam.config.profile import Compute, Profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.runs.files import read_json, write_json
from hgisam.runs.processes import end_with_parent
from hgisam.training.adopt import adopt
from hgisam.training.loop import fit

ERROR = "error.json"  # a worker's InputError, in the folder of the training


def node_rank() -> int:
    """Rank of this machine: `NODE_RANK`, else that of SLURM, else 0."""
    return int(os.environ.get("NODE_RANK") or os.environ.get("SLURM_NODEID") or 0)


def launch(profile: Profile, data: str | Path, folder: str | Path) -> None:
    """Train in `compute.devices` processes on each of `compute.nodes` machines, or adopt `train.checkpoint`.

    For several machines, start the same command on each, as `srun` does; `folder` must be on a shared file system. They
    find each other by `MASTER_ADDR` and `MASTER_PORT`, or by SLURM's variables. `data` is the folder of the prepared
    set, the other arguments are those of `fit`.

    Raises:
        InputError: As in `fit`, from any of the processes.
    """
    compute, data, folder = profile.compute, Path(data), Path(folder)
    if profile.train.checkpoint is not None or compute.devices * compute.nodes == 1:
        train = fit if profile.train.checkpoint is None else adopt
        train(profile, open_prepared(data), folder)
        return
    (folder / ERROR).unlink(missing_ok=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        elastic_launch(_config(compute), _worker)(profile.model_dump_json(), str(data), str(folder))
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        if not (folder / ERROR).is_file():
            raise
        found = read_json(folder / ERROR)
        (folder / ERROR).unlink()
        raise InputError(**found) from error
    finally:  # torch leaves its own handlers, which would disturb the kernel of a notebook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _config(compute: Compute) -> LaunchConfig:
    """Rendezvous of the processes; one that fails is not restarted, since the saved state can be resumed."""
    several = compute.nodes > 1
    return LaunchConfig(
        min_nodes=compute.nodes, max_nodes=compute.nodes, nproc_per_node=compute.devices, run_id="hgisam",
        rdzv_backend="static" if several else "c10d", rdzv_endpoint=_endpoint() if several else "localhost:0",
        rdzv_configs={"rank": node_rank()} if several else {}, max_restarts=0,
    )  # fmt: skip


def _endpoint() -> str:
    """host:port of the rendezvous of several machines; an InputError without `MASTER_ADDR` and SLURM."""
    address = os.environ.get("MASTER_ADDR")
    if not address and (nodes := os.environ.get("SLURM_NODELIST")):
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment  # lightning takes seconds

        address = SLURMEnvironment.resolve_root_node_address(nodes)
    if not address:
        remedy = "Start it with srun, or set MASTER_ADDR to the first machine and NODE_RANK on each."
        raise InputError("compute.nodes", "several, and no address of the first", "MASTER_ADDR or SLURM", remedy)
    return f"{address}:{os.environ.get('MASTER_PORT', '29400')}"


def _worker(profile: str, data: str, folder: str) -> None:
    """One process of a training; it leaves an InputError in a file for the process that started it."""
    end_with_parent()
    settings = Profile.model_validate_json(profile)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.compute.devices))
    try:
        fit(settings, open_prepared(Path(data)), folder)
    except InputError as error:
        about = {"what": error.what, "got": str(error.got), "expected": error.expected, "remedy": error.remedy}
        write_json(Path(folder) / ERROR, about)
        raise

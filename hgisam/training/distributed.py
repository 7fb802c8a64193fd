"""One training in one process or in many: on several devices of a machine, on several machines."""

import os
import signal
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
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

ERROR = "error.json"
PORT = "29400"


def node_rank() -> int:
    """Which of the machines this is: `NODE_RANK`, or what SLURM says; 0 where neither does."""
    return int(os.environ.get("NODE_RANK") or os.environ.get("SLURM_NODEID") or 0)


def launch(profile: Profile, data: Path, folder: Path) -> None:
    """Trains in `compute.devices` processes on each of `compute.nodes` machines, or takes `train.checkpoint` instead.

    On several machines the same command has to be started once on each, which `srun` does; they find each other by
    `MASTER_ADDR` and `MASTER_PORT`, or by what SLURM says, and need `folder` on a file system that they share.

    Args:
        profile: See `hgisam.training.loop.fit`.
        data: The prepared set.
        folder: Gets the files of `fit`.

    Raises:
        InputError: As `fit` does, whichever process finds the mistake.
    """
    compute = profile.compute
    if profile.train.checkpoint is not None:
        adopt(profile, open_prepared(data), folder)
        return
    if compute.devices * compute.nodes == 1:
        fit(profile, open_prepared(data), folder)
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
        raise InputError(found["what"], found["got"], found["expected"], found["remedy"]) from error
    finally:  # torch leaves its own, which would trouble a notebook's kernel
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _config(compute: Compute) -> LaunchConfig:
    """How the processes find each other; one that dies is not started again, since the state on disk is."""
    several = compute.nodes > 1
    return LaunchConfig(
        min_nodes=compute.nodes,
        max_nodes=compute.nodes,
        nproc_per_node=compute.devices,
        run_id="hgisam",
        rdzv_backend="static" if several else "c10d",
        rdzv_endpoint=_endpoint() if several else "localhost:0",
        rdzv_configs={"rank": node_rank()} if several else {},
        max_restarts=0,
    )


def _endpoint() -> str:
    """host:port at which the machines meet.

    Raises:
        InputError: If neither `MASTER_ADDR` nor SLURM says where.
    """
    address = os.environ.get("MASTER_ADDR")
    if not address and (nodes := os.environ.get("SLURM_NODELIST")):
        address = SLURMEnvironment.resolve_root_node_address(nodes)
    if not address:
        remedy = "Start it with srun, or set MASTER_ADDR to the first machine and NODE_RANK on each."
        raise InputError("compute.nodes", "several, and no address to meet at", "MASTER_ADDR or SLURM", remedy)
    return f"{address}:{os.environ.get('MASTER_PORT', PORT)}"


def _worker(profile: str, data: str, folder: str) -> None:
    """One of the processes; a mistake of the user's is left in a file for the process that started this one."""
    end_with_parent()
    settings = Profile.model_validate_json(profile)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.compute.devices))
    try:
        fit(settings, open_prepared(Path(data)), Path(folder))
    except InputError as error:
        about = {"what": error.what, "got": str(error.got), "expected": error.expected, "remedy": error.remedy}
        write_json(Path(folder) / ERROR, about)
        raise

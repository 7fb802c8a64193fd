"""Many tasks on many cores, of this machine or of a cluster, in order, with a bar."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dask.base
import dask.config
import distributed
from dask.delayed import delayed
from tqdm import tqdm
from tqdm.dask import TqdmCallback

import hgisam
from hgisam.errors import InputError
from hgisam.runs.processes import end_with_parent

Result = TypeVar("Result")
Workers = int | str  # processes of this machine, or the address of a Dask scheduler
CONNECT_S = 20
compute: Any = dask.base.compute  # dask has no types
Client: Any = distributed.Client
as_completed: Any = distributed.as_completed


def run_all(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], workers: Workers, label: str
) -> list[Result]:
    """Calls `function(*arguments[i])` for each i; results in the order of the arguments.

    The first exception of a worker stops the rest and is raised as it was; Ctrl-C stops all of them, and so does a kill
    of this process.

    Args:
        function: Importable by its name; its results travel between processes, so keep them small.
        arguments: One tuple a call.
        workers: Processes, of which 1 works in this one; or the address of a scheduler, whose workers must see the same
            folders under the same names.
        label: For the progress bar.

    Raises:
        InputError: If no scheduler answers there, it has no workers, they have another version of this package, or
            they die.
    """
    if isinstance(workers, str):
        return _run_on_cluster(function, arguments, workers, label)
    tasks = [delayed(function, pure=False, traverse=False)(*values) for values in arguments]
    # dask sets PYTHONHASHSEED for its workers and leaves it set
    seed = os.environ.get("PYTHONHASHSEED")
    settings: dict[str, Any] = {"scheduler": "synchronous"}
    if workers > 1 and len(tasks) > 1:
        settings = {
            "scheduler": "processes", "num_workers": min(workers, len(tasks)), "chunksize": 1,
            "initializer": _begin_worker,
        }  # fmt: skip
    try:
        # a server that has loaded the code starts workers at once; they inherit none of this process's threads
        multiprocessing.set_forkserver_preload([function.__module__])
        with dask.config.set({"multiprocessing.context": "forkserver"}), TqdmCallback(desc=label, disable=None):
            return list(compute(*tasks, **settings))
    except Exception as error:
        # dask wraps what a worker raised together with its traceback
        raise getattr(error, "exception", error) from None
    finally:
        if seed is None:
            os.environ.pop("PYTHONHASHSEED", None)


def _run_on_cluster(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], address: str, label: str
) -> list[Result]:
    if not arguments:
        return []
    with _client(address) as client:
        futures = client.map(function, *zip(*arguments, strict=True), pure=False)
        try:
            done = as_completed(futures, loop=client.loop, with_results=True)
            results = {
                future.key: result for future, result in tqdm(done, total=len(futures), desc=label, disable=None)
            }
        except distributed.KilledWorker:
            remedy = "Look at their memory and their logs; the same command goes on from here."
            raise InputError(
                "Dask workers", "several that died of the same task", "workers that live", remedy
            ) from None
        finally:
            client.cancel(futures)
        return [results[future.key] for future in futures]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """A connection to a scheduler whose workers have this version of this package."""
    remedy = "Start `dask scheduler` and on each machine `dask worker ADDRESS`, in the same environment as this."
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        got = f"{address} ({type(error).__name__})"
        raise InputError("Dask scheduler", got, "one that answers, such as tcp://host:8786", remedy) from None
    with client:
        workers = client.get_versions(packages=["hgisam"])["workers"]
        found = {worker["packages"].get("hgisam") for worker in workers.values()}
        if found != {hgisam.__version__}:
            got = f"workers with {', '.join(map(str, found))}" if found else "no worker"
            raise InputError(f"Dask scheduler {address}", got, f"workers with hgisam {hgisam.__version__}", remedy)
        yield client


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and stops its workers
    end_with_parent()

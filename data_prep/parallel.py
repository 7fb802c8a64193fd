"""Parallel map over processes of this machine or of a Dask cluster, with a progress bar.

Dask takes half a second to import, so only calls that use it do.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

import hgisam
from hgisam.errors import InputError
from hgisam.runs.processes import end_with_parent

Result = TypeVar("Result")
Workers = int | str  # processes of this machine, or the address of a Dask scheduler
CONNECT_S = 20


def run_all(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], workers: Workers, label: str
) -> list[Result]:
    """Calls `function(*arguments[i])` for each i; returns the results in the order of the arguments.

    The first exception of a worker stops the others and is raised unchanged. Ctrl-C stops all workers, and so does a
    kill of this process. A script that asks for several processes needs `if __name__ == "__main__"`.

    Args:
        function: Importable by its name. Its results are sent between processes, so keep them small.
        arguments: One tuple per call.
        workers: Number of processes, where 1 means this process; or the address of a Dask scheduler, whose workers must
            see the same folders under the same paths.
        label: Label of the progress bar.

    Raises:
        InputError: If the scheduler does not answer, has no workers, or its workers have another version of this
            package or are killed repeatedly.
    """
    if isinstance(workers, str):
        return _run_on_cluster(function, arguments, workers, label)
    if workers == 1 or len(arguments) < 2:
        return [function(*values) for values in tqdm(arguments, desc=label, disable=None)]
    return _run_on_machine(function, arguments, workers, label)


def _run_on_machine(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], processes: int, label: str
) -> list[Result]:
    """`run_all` on several processes of this machine."""
    import dask.base
    import dask.config
    from dask.delayed import delayed
    from tqdm.dask import TqdmCallback

    compute: Any = dask.base.compute  # dask has no types
    tasks = [delayed(function, pure=False, traverse=False)(*values) for values in arguments]
    # dask sets PYTHONHASHSEED for its workers and leaves it set
    seed = os.environ.get("PYTHONHASHSEED")
    settings: dict[str, Any] = {
        "scheduler": "processes", "num_workers": min(processes, len(tasks)), "chunksize": 1,
        "initializer": _begin_worker,
    }  # fmt: skip
    try:
        # a fork server that has imported the module starts workers quickly; they inherit no threads of this process
        multiprocessing.set_forkserver_preload([function.__module__])
        with dask.config.set({"multiprocessing.context": "forkserver"}), TqdmCallback(desc=label, disable=None):
            return list(compute(*tasks, **settings))
    except Exception as error:
        # dask wraps the exception of a worker together with its traceback
        raise getattr(error, "exception", error) from None
    finally:
        if seed is None:
            os.environ.pop("PYTHONHASHSEED", None)


def _run_on_cluster(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], address: str, label: str
) -> list[Result]:
    """`run_all` on the workers of a Dask scheduler."""
    if not arguments:
        return []
    import distributed

    as_completed: Any = distributed.as_completed
    with _client(address) as client:
        futures = client.map(function, *zip(*arguments, strict=True), pure=False)
        try:
            done = as_completed(futures, loop=client.loop, with_results=True)
            results = {
                future.key: result for future, result in tqdm(done, total=len(futures), desc=label, disable=None)
            }
        except distributed.KilledWorker:
            remedy = "Check their memory and their logs; the same command resumes here."
            got, expected = "workers killed repeatedly on one task", "workers that finish it"
            raise InputError("Dask workers", got, expected, remedy) from None
        finally:
            client.cancel(futures)
        return [results[future.key] for future in futures]


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """Connection to a Dask scheduler whose workers have the same version of this package."""
    import distributed

    remedy = "Start `dask scheduler` and on each machine `dask worker ADDRESS`, in the same environment as this."
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=CONNECT_S, set_as_default=False)
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
    """Initialises a worker process: Ctrl-C is left to the parent, and the worker ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it too and stops its workers
    end_with_parent()

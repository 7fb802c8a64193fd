"""Many tasks on many cores, in order, with a bar."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import dask.base
from dask.delayed import delayed
from tqdm.dask import TqdmCallback

Result = TypeVar("Result")
compute: Any = dask.base.compute  # dask has no types


def run_all(
    function: Callable[..., Result], arguments: Sequence[tuple[Any, ...]], jobs: int, label: str
) -> list[Result]:
    """Calls `function(*arguments[i])` for each i; results in the order of the arguments.

    The first exception of a worker stops the rest and is raised as it was; Ctrl-C stops all of them, and so does a kill
    of this process.

    Args:
        function: Importable by its name; its results travel between processes, so keep them small.
        arguments: One tuple a call.
        jobs: Processes; 1 works in this one.
        label: For the progress bar.
    """
    tasks = [delayed(function, pure=False, traverse=False)(*values) for values in arguments]
    # dask sets PYTHONHASHSEED for its workers and leaves it set
    seed = os.environ.get("PYTHONHASHSEED")
    settings: dict[str, Any] = {"scheduler": "synchronous"}
    if jobs > 1 and len(tasks) > 1:
        settings = {
            "scheduler": "processes", "num_workers": min(jobs, len(tasks)), "chunksize": 1,
            "initializer": _begin_worker,
        }  # fmt: skip
    try:
        with TqdmCallback(desc=label, disable=None):
            return list(compute(*tasks, **settings))
    except Exception as error:
        # dask wraps what a worker raised together with its traceback
        raise getattr(error, "exception", error) from None
    finally:
        if seed is None:
            os.environ.pop("PYTHONHASHSEED", None)


def end_with_parent() -> None:
    """Ends this process once the one that started it is gone, so that a kill leaves no orphan."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and stops its workers
    end_with_parent()

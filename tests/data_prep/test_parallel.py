"""The parallel map: order of results, errors of workers, and their end with the parent process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_prep.parallel import run_all
from hgisam.errors import InputError

ROOT = Path(__file__).parents[2]


def double(number: int) -> int:
    """A task that fails for 3."""
    if number == 3:
        raise InputError("number", number, "another one", "Change it.")
    return 2 * number


def linger(folder: Path, number: int) -> None:
    """Writes the id of its process, and keeps running."""
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(120)


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_order_and_an_error_is_raised_unchanged(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)  # workers import this module from it, also if their fork server runs already
    assert run_all(double, [(n,) for n in (5, 1, 4)], jobs, "doubling") == [10, 2, 8]
    with pytest.raises(InputError, match="number: got 3"):
        run_all(double, [(n,) for n in (1, 3, 2)], jobs, "doubling")


def test_a_kill_leaves_no_orphan(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from data_prep.parallel import run_all\n"
        "from tests.data_prep.test_parallel import linger\n"
        "if __name__ == '__main__':\n"
        f"    run_all(linger, [(Path({str(tmp_path)!r}), n) for n in (0, 1)], 2, 'lingering')\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 90
        while len(marks := list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(0.2)
        workers = [int(mark.read_text()) for mark in marks]
        assert len(workers) == 2
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(psutil.pid_exists, workers))

"""Data-parallel processes train as one process does, on one machine and on two that share a disk."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_tensors
from hgisam.training.distributed import _endpoint, launch, node_rank
from tests.conftest import TINY, make_prepared

SETTINGS = (*TINY, "model.drop_path=0", "train.epochs=2", "train.patience=9")


def profile_of(*more: str) -> Profile:
    """A small profile in float32, without stochastic depth, which differs from process to process."""
    return load_profile("smoke", [*SETTINGS, *more])


def assert_same(one: Path, other: Path) -> None:
    """Weights, scores and history agree to rounding."""
    a, b = (load_tensors(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=2e-4, rtol=0)
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in (one, other)]
    pd.testing.assert_frame_equal(*tables, atol=1e-3)
    histories = [pd.read_csv(f / "train.csv").drop(columns=["seconds", "images_per_s"]) for f in (one, other)]
    pd.testing.assert_frame_equal(*histories, atol=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prepared set, and its training in one process."""
    folder = tmp_path_factory.mktemp("alone")
    data = make_prepared(folder / "set", patients=14)  # validation slices that two processes can't share evenly
    (folder / "run").mkdir()
    launch(profile_of(), data, folder / "run")
    return data, folder / "run"


def test_two_processes_train_like_one(alone: tuple[Path, Path], tmp_path: Path) -> None:
    data, expected = alone
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    launch(profile_of("compute.devices=2"), data, tmp_path)
    assert_same(expected, tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_processes_end_with_the_one_that_started_them(alone: tuple[Path, Path], tmp_path: Path) -> None:
    program = (
        "import sys; from hgisam.training.distributed import launch; "
        "from hgisam.config.profile import load_profile; "
        "launch(load_profile('smoke', sys.argv[3:]), sys.argv[1], sys.argv[2])"
    )
    long = (*SETTINGS, "compute.devices=2", "train.epochs=9999", "train.patience=9999")
    starter = subprocess.Popen([sys.executable, "-c", program, str(alone[0]), str(tmp_path), *long])
    deadline = time.monotonic() + 200
    while not (tmp_path / "state.safetensors").exists():
        assert starter.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = psutil.Process(starter.pid).children(recursive=True)
    assert len(workers) >= 2
    starter.kill()
    starter.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_two_machines_train_like_one(alone: tuple[Path, Path], tmp_path: Path) -> None:
    data, expected = alone
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = (
        "import sys; from hgisam.training.distributed import launch; "
        "from hgisam.config.profile import load_profile; "
        "launch(load_profile('smoke', sys.argv[3:]), sys.argv[1], sys.argv[2])"
    )
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-c", program, str(data), str(run), *SETTINGS, "compute.nodes=2"]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    nodes = [subprocess.Popen(command, env=environment | {"NODE_RANK": str(rank)}) for rank in (0, 1)]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert_same(expected, run)


def test_an_input_error_in_a_process_is_one_error(alone: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"slices of .* got 32 px"):
        launch(profile_of("compute.devices=2", "data.field_of_view_mm=240"), alone[0], tmp_path)
    assert not list(tmp_path.iterdir())


def test_machines_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_NODELIST", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    assert node_rank() == 0
    with pytest.raises(InputError, match="srun"):
        _endpoint()
    monkeypatch.setenv("SLURM_NODELIST", "gpu[07-09,12]")
    monkeypatch.setenv("SLURM_NODEID", "2")
    assert (_endpoint(), node_rank()) == ("gpu07:29400", 2)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    monkeypatch.setenv("NODE_RANK", "1")
    assert (_endpoint(), node_rank()) == ("10.0.0.1:1234", 1)

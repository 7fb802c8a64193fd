"""Errors of `make book` before anything starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[2] / "book" / "build.py"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "Did you mean epochs"),
        ('study.trainings={unet:{"train.epoch":3}}', "Did you mean epochs"),
        ('study.trainings={unet:{"task":"segmentation"}}', "monitor"),
    ],
)
def test_an_error_in_the_profile_or_in_a_training_of_the_studies(tmp_path: Path, override: str, message: str) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", tmp_path / "runs", "--set", override]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rsna", "EMPTY"], "RSNA folder EMPTY: got an empty folder"),
        (["--ct-ich", "EMPTY"], "got an empty folder"),
        (["--rsna", "nowhere"], "RSNA: got nowhere"),
        (["--take-from", "nowhere"], "TAKE_FROM: got nowhere"),
        (["--runs-dir", "FILE"], "FILE/smoke/logs: got “Not a directory”"),
    ],
)
def test_a_wrong_path_is_one_line_before_anything_is_written(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", "runs", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", "runs"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    log = tmp_path / "runs" / "smoke" / "logs" / "snakemake.log"
    while process.poll() is None and not (log.is_file() and log.stat().st_size):
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, output = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "✗ stopped; the same command resumes from here"
    assert "Traceback" not in output


def test_a_missing_browser_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", tmp_path / "runs", "--print"]
    bare = {**os.environ, "PATH": "", "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 2, done.stderr
    assert "no Chromium" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()

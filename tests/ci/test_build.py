"""Errors of `make book` before anything starts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import build

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
        (["--take-from", ""], "TAKE_FROM: got nothing"),
        (["--train", "some"], "TRAIN: got some"),
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


def test_ctrl_c_is_one_line_in_a_run_named_like_a_number_without_a_home(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", "2024_05"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True,
        env={**os.environ, "HOME": "/nonexistent", "XDG_CACHE_HOME": "", "LC_ALL": "C"},
    )  # fmt: skip
    logs = tmp_path / "2024_05" / "smoke" / "logs"
    while process.poll() is None and not (logs / "01_problem_and_data.log").is_file():  # the first notebook runs
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, output = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "✗ stopped; the same command resumes from here"
    assert "Traceback" not in output
    assert [path.name for path in tmp_path.glob("20*")] == ["2024_05"]


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, mine = tmp_path / "home", tmp_path / "mine"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.writable_home(mine) == {}
    (home / ".cache").write_text("a file")
    assert build.writable_home(mine) == {"XDG_CACHE_HOME": str(mine / ".cache")}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.writable_home(mine) == {}
    monkeypatch.setenv("HOME", "/nonexistent")
    assert build.writable_home(mine) == {"HOME": str(mine)}
    assert mine.is_dir()


def test_a_number_on_the_command_line_of_snakemake_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", BUILD.with_name("Snakefile"), "-n", "--config"]
    done = subprocess.run([*command, "runs_dir=2024_05"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode
    assert "--config runs_dir: got 202405, expected text" in done.stdout + done.stderr


def test_a_missing_browser_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", tmp_path / "runs", "--print"]
    bare = {**os.environ, "PATH": "", "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 2, done.stderr
    assert "no Chromium" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()

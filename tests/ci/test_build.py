"""What `make book` refuses before anything starts."""

import os
import subprocess
import sys
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
def test_a_mistake_in_the_profile_or_in_a_training_of_the_studies(tmp_path: Path, override: str, message: str) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", tmp_path / "runs", "--set", override]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_without_a_browser_nothing_is_made_only_to_fail_at_the_print(tmp_path: Path) -> None:
    command = [sys.executable, BUILD, "--profile", "smoke", "--runs-dir", tmp_path / "runs", "--print"]
    bare = {**os.environ, "PATH": "", "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 2, done.stderr
    assert "no Chromium" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()

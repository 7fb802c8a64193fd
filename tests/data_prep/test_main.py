"""The command line: one line and the right exit code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_prep import __main__ as cli


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(cli.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "data_prep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["data_prep", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_prepares_and_prints_a_summary(ct_raw: Path, tmp_path: Path) -> None:
    result = run("ct-ich", str(ct_raw), str(tmp_path / "out"), "--image-px", "32")
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout
        == f"ct-ich: 8 files, 4 studies read, 0 skipped; 32 slices of 4 patients written to {tmp_path}/out\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-h"], 0, "ct-ich"),
        (["rsna", "-h"], 0, "--leave-out"),
        (["instance", "-h"], 0, "label"),
        (["rsna", "--nonsense"], 2, "nonsense"),
        (["ct-ich", "RAW", "OUT", "--jobs", "0"], 2, "jobs"),
        (["ct-ich", "RAW", "OUT"], 2, "no such folder"),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == code
    shown = capfd.readouterr()
    assert message in shown.out + shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "Stopped"),
        (OSError(28, "No space left on device"), 1, "the disk is full"),
        (PermissionError(13, "Permission denied", "out"), 2, "out: got “Permission denied”"),
    ],
)
def test_interruptions_are_one_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "prepare", fail)
    assert call(monkeypatch, "ct-ich", "RAW", "OUT") == code
    shown = capfd.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1

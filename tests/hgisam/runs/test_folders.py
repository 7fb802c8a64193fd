"""Folders: whole or not at all, one process at a time, and nothing of anybody else's is lost."""

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from hgisam.errors import InputError, exit_line
from hgisam.runs.folders import (
    bytes_of,
    check_named,
    held,
    is_free,
    partial_of,
    replace_folder,
    resumed_folder,
    whole_file,
    whole_folder,
)


def test_neighbours_that_are_not_ours_stay(tmp_path: Path) -> None:
    others = [tmp_path / f".out.{name}" for name in ("backup.tmp", "99999999999999999999.tmp", "7.keep")]
    dead = tmp_path / ".out.999999999.old"
    for folder in (*others, dead):
        folder.mkdir()
    with whole_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("a")
    assert all(folder.is_dir() for folder in others)
    assert not dead.exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    with whole_folder(tmp_path / "out") as scratch:
        (scratch / "a").write_text("a")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real" / "a").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "real"]


@pytest.mark.parametrize("name", [".", "..", "a/.."])
def test_a_folder_without_a_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="a name of its own"), whole_folder(Path(name)):
        pass
    assert not list(tmp_path.iterdir())


def test_only_what_was_made_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert is_free(out)
    out.write_text("")
    assert not is_free(out)
    out.unlink()
    (out / "maps.zarr" / "c").mkdir(parents=True)
    assert is_free(out)  # nothing but empty folders
    (out / "maps.zarr" / "c" / "0").write_text("")
    (out / "train").mkdir()
    (out / "train" / "train.csv").write_text("")
    assert is_free(out, ["maps.zarr", "train/train.csv"])
    assert not is_free(out, ["maps.zarr"])
    for left in (".maps.zarr.4711.tmp/c/0", ".maps.zarr.4711.old/c/0", "train/.train.csv.tmp"):  # by a killed process
        (out / left).parent.mkdir(parents=True, exist_ok=True)
        (out / left).write_text("")
    assert is_free(out, ["maps.zarr", "train/train.csv"])
    assert not is_free(out, ["maps.zarr"])
    (out / "train" / "thesis.txt").write_text("")
    assert not is_free(out, ["maps.zarr", "train/train.csv"])


def _hold(file: Path, ready: "multiprocessing.synchronize.Event", end: "multiprocessing.synchronize.Event") -> None:
    with held(file):
        ready.set()
        end.wait(60)


def test_one_process_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "step" / "mark", ready, end))
    other.start()
    assert ready.wait(60)
    with pytest.raises(InputError, match="in use"), held(tmp_path / "step" / "mark", wait_s=0):
        pass
    other.kill()
    other.join()
    with held(tmp_path / "step" / "mark", wait_s=0):
        pass


def test_a_file_that_its_holder_removed_is_made_anew(tmp_path: Path) -> None:
    mark = tmp_path / "step" / "mark"
    with held(mark) as first:
        first.write("mine")
        first.flush()
        mark.parent.rename(tmp_path / "done")
    with held(mark, wait_s=0) as second:
        assert second.read() == ""
    assert (tmp_path / "done" / "mark").read_text() == "mine"


def test_where_there_are_no_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", fail)
    with held(tmp_path / "mark", wait_s=0) as handle:
        assert handle.read() == ""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errno.ENOSPC, 1, "Stopped: the disk is full (x)"),
        (errno.EIO, 1, f"Stopped: {os.strerror(errno.EIO)} (x)"),
        (errno.ENOTDIR, 2, "x: got “Not a directory”, expected"),
        (errno.EACCES, 2, "x: got “Permission denied”, expected"),
    ],
)
def test_what_the_system_refuses_is_one_line(error: int, code: int, words: str) -> None:
    got, line = exit_line(OSError(error, os.strerror(error), "x"))
    assert got == code
    assert words in line


def test_a_file_that_could_not_be_written_leaves_the_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for name in (path, str(path)):
        with whole_file(name) as scratch:
            scratch.write_text("whole")

    def fill_the_disk(scratch: Path) -> None:
        scratch.write_text("ha")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), whole_file(path) as scratch:
        fill_the_disk(scratch)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_may_be_texts(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert is_free(out)
    with resumed_folder(partial_of(out), "work") as partial:
        (partial / "a").write_text("a")
    replace_folder(str(partial), out)
    assert not is_free(out)
    assert bytes_of(out) == 5
    check_named(out)

"""Files and folders that appear whole or not at all, for one process at a time, and hashes of their content."""

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from hgisam.errors import InputError

log = logging.getLogger(__name__)

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}  # of file systems without locks, such as some Lustre
MARK = "fingerprint"
SCRATCH = re.compile(r"(?<![^/])\.([^/]+?)(?:\.[0-9]{1,9})?\.(?:tmp|old)(?![^/])")  # in a relative path
WAIT_S = 15  # for another process, perhaps a stopped one that is about to end


@contextmanager
def whole_folder(out: str | Path) -> Iterator[Path]:
    """A scratch folder beside `out` that becomes `out` only if the block ends well.

    An existing folder is replaced in the same moment, behind a link too. What a killed process left beside it goes.

    Raises:
        InputError: If `out` has no name.

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "results"
        >>> with whole_folder(out) as scratch:
        ...     _ = (scratch / "a.txt").write_text("whole")
        >>> (out / "a.txt").read_text()
        'whole'
    """
    check_named(out)
    out = Path(out).resolve() if Path(out).is_symlink() else Path(out)
    ours = re.compile(rf"\.{re.escape(out.name)}\.([0-9]{{1,9}})\.(tmp|old)")
    for left in out.parent.iterdir() if out.parent.is_dir() else ():
        if (found := ours.fullmatch(left.name)) and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        replace_folder(scratch, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A scratch file beside `path` that becomes `path` only if the block ends well."""
    scratch = Path(path).with_name(f".{Path(path).name}.tmp")
    scratch.unlink(missing_ok=True)
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def replace_folder(source: str | Path, target: str | Path) -> None:
    """Renames `source` to `target`; an earlier `target` is removed only once the new one can take its place."""
    target = Path(target)
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    Path(source).rename(target)
    shutil.rmtree(old, ignore_errors=True)


def check_named(out: str | Path) -> None:
    """Refuses `.` and `..`: a folder is made beside its place, and takes it when it is whole.

    Raises:
        InputError: If it is one of them.
    """
    if Path(out).name in ("", ".."):
        raise InputError("folder to make", str(out), "one with a name of its own", "Name a folder in it.")


def is_free(out: str | Path, made: Iterable[str] = ()) -> bool:
    """Whether `out` holds nothing but `made`, relative to it, and what a killed process left under scratch names."""
    out = Path(out)
    if not out.is_dir():
        return not out.exists() and not out.is_symlink()
    files = (Path(SCRATCH.sub(r"\1", str(path.relative_to(out)))) for path in out.rglob("*") if not path.is_dir())
    known = {Path(name) for name in made}
    return all(known & {file, *file.parents} for file in files)


@contextmanager
def held(file: str | Path, *, wait_s: int = WAIT_S) -> Iterator[TextIO]:
    """A file of a folder, locked by this process until the block ends, or the process, however it ends.

    Raises:
        InputError: If another process still holds the lock after `wait_s` seconds.

    A lock of the system in place of the package filelock, whose descriptor a child process can't inherit.
    """
    file = Path(file)
    for second in range(wait_s + 1):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+", encoding="utf-8") as handle:
            if _locked(handle, file):
                handle.seek(0)
                yield handle
                return
        if second == 0:
            log.info("%s: waiting for another process that works there", file.parent)
        if second < wait_s:
            time.sleep(1)
    raise InputError(str(file.parent), "in use", "one process at a time in it", "Wait for the other to end.")


def _locked(handle: TextIO, file: Path) -> bool:
    """Whether the lock was acquired, and the open file is still the one of that name."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle.fileno()), file.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return True
        raise


@contextmanager
def resumed_folder(partial: str | Path, fingerprint: str, *, afresh: bool = False) -> Iterator[Path]:
    """A folder to work in, for this process alone: with what a stopped process left of the same work, or empty.

    Args:
        partial: The folder; `MARK` in it holds the fingerprint of the work.
        fingerprint: Of the work.
        afresh: Start with an empty folder.

    Raises:
        InputError: If another process works there.
    """
    partial = Path(partial)
    with held(partial / MARK) as mark:
        if mark.read() == fingerprint and not afresh:
            log.info("%s: resumed where it was stopped", partial)
        else:
            for path in partial.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != MARK:
                    path.unlink()
            mark.truncate(0)
            mark.write(fingerprint)
            mark.flush()
        yield partial


def partial_of(folder: str | Path) -> Path:
    """Folder of the unfinished work."""
    return Path(folder).with_name(f"{Path(folder).name}.partial")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path.parent).as_posix().encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def bytes_of(path: str | Path) -> int:
    """Size of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in (Path(path), *Path(path).rglob("*")) if file.is_file())

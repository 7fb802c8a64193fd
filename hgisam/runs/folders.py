"""Folders that appear whole or not at all, and what proves that their content is that which was written."""

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

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}  # said by file systems that know none, such as some Lustre
MARK = "fingerprint"
WAIT_S = 15  # for another process, perhaps a stopped one that is about to end


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yields a scratch folder beside `out` that becomes `out` only if the block ends well.

    Args:
        out: Folder to make; an existing one is replaced in the same moment, behind a link too. What a killed process
            left beside it goes.

    Raises:
        InputError: If it has no name.
    """
    check_named(out)
    out = out.resolve() if out.is_symlink() else out
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


def replace_folder(source: Path, target: Path) -> None:
    """Renames `source` to `target`; what stood at `target` goes away only once the new one can take its place."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    source.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def check_named(out: Path) -> None:
    """Refuses `.` and `..`: a folder is made beside its place, and takes it when it is whole.

    Raises:
        InputError: If it is one of them.
    """
    if out.name in ("", ".."):
        raise InputError("folder to make", str(out), "one with a name of its own", "Name a folder in it.")


def is_free(out: Path, made: Iterable[str] = ()) -> bool:
    """Whether nothing is lost where `out` is replaced: nothing is there but what was made, files or whole folders.

    Args:
        out: There or not.
        made: Their names, relative to `out`.
    """
    if not out.is_dir():
        return not out.exists() and not out.is_symlink()
    files = (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())
    known = {Path(name) for name in made}
    return all(known & {file, *file.parents} for file in files)


@contextmanager
def held(file: Path, *, wait_s: int = WAIT_S) -> Iterator[TextIO]:
    """A file of a folder, open for this process alone until the block ends, or the process, however it ends.

    Args:
        file: Made where it is not there.
        wait_s: How long to wait for another process.

    Raises:
        InputError: If another one holds it.
    """
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
    """Whether the lock was to be had, and the open file is still the one of that name."""
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
def resumed_folder(partial: Path, fingerprint: str, *, afresh: bool = False) -> Iterator[Path]:
    """A folder to work in, for this process alone: what a stopped one left there of the same work, else an empty one.

    Args:
        partial: The folder; `MARK` in it says of which work it is.
        fingerprint: Of the work.
        afresh: Take nothing over.

    Raises:
        InputError: If another process works there.
    """
    with held(partial / MARK) as mark:
        if mark.read() == fingerprint and not afresh:
            log.info("%s: going on where it was stopped", partial)
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


def partial_of(folder: Path) -> Path:
    """Where work goes on until the folder is whole."""
    return folder.with_name(f"{folder.name}.partial")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path.parent).as_posix().encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def bytes_of(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())

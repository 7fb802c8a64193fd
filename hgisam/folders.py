"""Folders that appear whole or not at all, and what proves that their content is that which was written."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yields a scratch folder beside `out` that becomes `out` only if the block ends well.

    Args:
        out: Folder to make; an existing one is replaced in the same moment. What a killed process left beside it goes.
    """
    for ending in ("tmp", "old"):
        for left in out.parent.glob(f".{out.name}.*.{ending}"):
            if not psutil.pid_exists(int(left.name.split(".")[-2])):
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

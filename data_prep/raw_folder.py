"""The raw folder: what is in it, whether it changed, and words for what is missing."""

import difflib
import errno
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom

from data_prep.volume import Study
from hgisam.errors import InputError

NAMED = 20  # how many of a long list are named in a report or an error


@dataclass
class Listing:
    """What a reader found before it opened any image.

    Attributes:
        studies: In the order in which they are prepared.
        skipped: (file, reason) of files that cannot be used.
        counts: Anything else for the report.
    """

    studies: list[Study]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)


def refused(error: BaseException) -> str | None:
    """Why the system did not give a file, without its path; None where the file was given and its content is wrong."""
    if isinstance(error, FileNotFoundError):  # nibabel raises it without saying more
        return f"cannot be read: {os.strerror(errno.ENOENT)}"
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) and error.strerror else None


def some(names: Sequence[object], shown: int = 5) -> str:
    """The first few of a list, as text."""
    text = ", ".join(str(name) for name in names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def counted(names: Sequence[str]) -> dict[str, Any]:
    """A list for the report: how many, and the first of them."""
    return {"count": len(names), "first": sorted(names)[:NAMED]}


def contents(folder: Path) -> str:
    """What a folder holds, in words, for an error message."""
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return f"a folder with {some(names)}" if names else "an empty folder"


def entries_below(raw: Path) -> list[Path]:
    """Whatever is no folder in a tree, sorted, without hidden ones; links to folders are not followed.

    Raises:
        InputError: If a folder can't be listed.
    """

    def fail(error: OSError) -> None:
        where = Path(str(error.filename)).relative_to(raw)
        remedy = "Make it readable, or move it away."
        raise InputError(f"folder {where} of {raw}", error.strerror, "a folder that can be listed", remedy)

    walk = os.walk(raw, onerror=fail)
    return sorted(Path(folder) / name for folder, _, names in walk for name in names if name[0] != ".")


def require(raw: Path, entries: Sequence[str], layout: str) -> None:
    """Makes sure that a raw folder has its files and folders.

    Args:
        raw: The folder.
        entries: Names in it; one that ends in "/" is a folder.
        layout: Name of the layout, for the message.

    Raises:
        InputError: Names what is there and what is expected.
    """
    for entry in entries:
        path = raw / entry.rstrip("/")
        if not (path.is_dir() if entry.endswith("/") else path.is_file()):
            raise InputError(
                f"{layout} folder {raw}", contents(raw), " and ".join(entries), "Give the folder that holds them."
            )


def read_csv(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Reads the named columns of a csv as text, and those of the optional ones that it has.

    Raises:
        InputError: If it cannot be read, is empty, or lacks a column.
    """
    remedy = "Give the csv of the data set as it was published."
    try:
        header = pd.read_csv(path, nrows=0, encoding="utf-8-sig")
        names = {str(name).strip(): name for name in header.columns}
        if missing := [column for column in columns if column not in names]:
            raise InputError(f"{path.name} columns", some(list(names), 10) or "none", some(missing, 10), remedy)
        wanted = [names[column] for column in (*columns, *optional) if column in names]
        table = pd.read_csv(path, usecols=wanted, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(path.name, f"an unreadable file ({error})", "a csv", remedy) from None
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    for name in sorted(names.keys() - {*columns, *optional}):
        if near := difflib.get_close_matches(name, optional, n=1, cutoff=0.75):
            raise InputError(f"{path.name} column {name}", "an unknown name", "a known one", f"Did you mean {near[0]}?")
    if table.empty:
        raise InputError(path.name, "no rows", "labels", remedy)
    return table


def listing_hash(raw: Path, files: Sequence[Path], tables: Sequence[Path]) -> str:
    """SHA-256 of the names and sizes of all files and the content of the tables; independent of where the folder is."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path.relative_to(raw)) + f" {path.stat().st_size}\n".encode())
    for path in tables:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keeps the file libraries from warning about values that they read all the same; a warning may hold an id."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "nibabel.global")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

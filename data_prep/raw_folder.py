"""The raw folder: listing, required files, CSV tables, a hash of the content, and error messages."""

import difflib
import errno
import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom

from data_prep.volume import Study, UnusableError
from hgisam.errors import InputError

MAX_NAMES = 20  # names of a long list that a report gives
FIX_CSV = "Fix the CSV file."


@dataclass
class Listing:
    """The studies of a raw folder, as a reader lists them before it opens any image.

    Attributes:
        studies: In the order of preparation.
        skipped: (file, reason) of files that cannot be used.
        counts: Further entries of the report.
        without_image: Label rows without an image.
    """

    studies: list[Study]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)


def read_failure(error: BaseException) -> str | None:
    """Reason of the operating system for not opening a file, without its path; None if the content is at fault."""
    if isinstance(error, FileNotFoundError):  # nibabel raises it without strerror
        return f"cannot be read: {os.strerror(errno.ENOENT)}"
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) and error.strerror else None


def first_names(names: Sequence[object], shown: int = 5) -> str:
    """The first few names of a list, as text."""
    text = ", ".join(str(name) for name in names[:shown])
    return f"{text} and {len(names) - shown} more" if len(names) > shown else text


def count_and_first(names: Sequence[str]) -> dict[str, Any]:
    """Summary of a list for the report: its length and its first names."""
    return {"count": len(names), "first": sorted(names)[:MAX_NAMES]}


def contents(folder: str | Path) -> str:
    """Description of a folder's content for an error message."""
    folder = Path(folder)
    if not folder.exists():
        return "no such folder"
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return f"a folder with {first_names(names)}" if names else "an empty folder"


def entries_below(raw: str | Path) -> list[Path]:
    """All entries of a tree that are not folders, sorted, without hidden ones; links to folders are not followed.

    Raises:
        InputError: If a folder can't be listed.
    """
    raw = Path(raw)

    def fail(error: OSError) -> None:
        where = Path(str(error.filename)).relative_to(raw)
        remedy = "Make it readable, or move it to another place."
        raise InputError(f"folder {where} of {raw}", error.strerror, "a folder that can be listed", remedy)

    walk = os.walk(raw, onerror=fail)
    return sorted(Path(folder) / name for folder, _, names in walk for name in names if name[0] != ".")


def require(raw: str | Path, entries: Sequence[str], layout: str) -> None:
    """Checks that a raw folder has the files and folders of its layout.

    Args:
        raw: The raw folder.
        entries: Names in it; a name that ends in "/" is a folder.
        layout: Name of the layout, for the message.

    Raises:
        InputError: If an entry is missing.
    """
    raw = Path(raw)
    for entry in entries:
        path = raw / entry.rstrip("/")
        if not (path.is_dir() if entry.endswith("/") else path.is_file()):
            raise InputError(
                f"{layout} folder {raw}", contents(raw), " and ".join(entries), "Give the folder that holds them."
            )


def read_csv(path: str | Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Reads columns of a CSV file as text; optional ones only if present.

    Raises:
        InputError: If the file cannot be read, has no rows, or lacks a column.
    """
    path, remedy = Path(path), "Give the CSV file as it was published."
    try:
        header = pd.read_csv(path, nrows=0, encoding="utf-8-sig")
        names = {str(name).strip(): name for name in header.columns}
        if missing := [column for column in columns if column not in names]:
            raise InputError(
                f"{path.name} columns", first_names(list(names), 10) or "none", first_names(missing, 10), remedy
            )
        selected = [names[column] for column in (*columns, *optional) if column in names]
        table = pd.read_csv(path, usecols=selected, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(path.name, f"an unreadable file ({error})", "a CSV file", remedy) from None
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    for name in sorted(names.keys() - {*columns, *optional}):
        if near := difflib.get_close_matches(name, optional, n=1, cutoff=0.75):
            raise InputError(f"{path.name} column {name}", "an unknown name", "a known one", f"Did you mean {near[0]}?")
    if table.empty:
        raise InputError(path.name, "no rows", "labels", remedy)
    return table


def listing_hash(raw: str | Path, files: Sequence[Path], tables: Sequence[Path]) -> str:
    """SHA-256 of the names and sizes of all files and the content of the tables; independent of the folder's path."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path.relative_to(raw)) + f" {path.stat().st_size}\n".encode())
    for path in tables:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Silences warnings of pydicom and nibabel about values that they can read; a warning may contain an id."""
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


@contextmanager
def foreign_reader(reason: Callable[[Exception], str]) -> Iterator[None]:
    """Silences pydicom, nibabel and their codecs; whatever they raise for a broken file costs that file alone.

    Args:
        reason: Function from the exception to one line without paths and without values that may identify a person.

    Raises:
        UnusableError: Instead of any other exception.
    """
    with quiet_readers():
        try:
            yield
        except UnusableError:
            raise
        except Exception as error:  # their exceptions for broken files are of any type: struct.error, RecursionError
            raise UnusableError(reason(error)) from None

"""The output folder of a preparation: protects other folders, resumes a stopped run, detects a finished data set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.raw_folder import contents
from hgisam.errors import InputError
from hgisam.runs.folders import MARK, check_named, is_free, resumed_folder

WRITTEN = {"dataset.json", "slices.parquet", "slices.zarr"}


def check_folders(raw: str | Path, out: str | Path) -> None:
    """Checks that `out` can be written without touching raw data or other folders.

    Raises:
        InputError: If `out` and `raw` overlap, or `out` exists and is not a prepared data set.
    """
    raw, out = Path(raw), Path(out)
    check_named(out)
    if not raw.is_dir():
        raise InputError(
            f"raw folder {raw}", contents(raw), "a folder with studies", "Give the folder of the data set."
        )
    inner, outer = out.resolve(), raw.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise InputError("output folder", f"{out}, which overlaps {raw}", "a folder beside it", "Choose another one.")
    if out.exists() and not _is_prepared(out):
        raise InputError(
            f"output folder {out}", contents(out), "a new folder or a prepared data set",
            "Choose another one; nothing was changed.",
        )  # fmt: skip


def _is_prepared(out: Path) -> bool:
    if not out.is_dir():
        return False
    names = {path.name for path in out.iterdir()}
    return not names or ("dataset.json" in names and names <= WRITTEN | {"boxes.parquet"})


def is_up_to_date(out: str | Path, fingerprint: str, newest_ns: int) -> bool:
    """True if `out` is complete, made from the same input and settings, and newer than its raw files."""
    out = Path(out)
    try:
        meta = json.loads((out / "dataset.json").read_text())
        complete = all((out / name).exists() for name in (*WRITTEN, *meta["hashes"]))
        return bool(complete and meta["fingerprint"] == fingerprint and _mtime_ns(out / "dataset.json") >= newest_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _mtime_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


@contextmanager
def open_partial(partial: str | Path, fingerprint: str, newest_ns: int, *, resume: bool) -> Iterator[Path]:
    """Locks the folder of parts for this process; keeps the parts of a stopped run if they match and `resume` is set.

    Raises:
        InputError: If `partial` exists and holds no parts, or another process has locked it.
    """
    partial = Path(partial)
    mark = partial / MARK
    if not mark.is_file() and not is_free(partial):
        raise InputError(f"{partial}", contents(partial), "nothing, or parts of an earlier run", "Rename or remove it.")
    outdated = mark.is_file() and _mtime_ns(mark) < newest_ns
    with resumed_folder(partial, fingerprint, afresh=outdated or not resume):
        (partial / "parts").mkdir(exist_ok=True)
        yield partial

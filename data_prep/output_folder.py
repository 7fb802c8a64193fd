"""Where a set is made: raw data and foreign folders stay untouched, a stopped run goes on, a whole set stays."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.inputs import contents
from hgisam.errors import InputError
from hgisam.runs.folders import MARK, check_named, is_free, resumed_folder

WRITTEN = {"dataset.json", "slices.parquet", "slices.zarr"}


def check_places(raw: Path, out: Path) -> None:
    """Keeps raw data and foreign folders safe.

    Raises:
        InputError: If `out` and `raw` lie in each other, or `out` is something that was not made here.
    """
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


def is_done(out: Path, fingerprint: str, newest_ns: int) -> bool:
    """Whether `out` is whole, of the same input and settings, and younger than its raw files."""
    try:
        meta = json.loads((out / "dataset.json").read_text())
        whole = all((out / name).exists() for name in (*WRITTEN, *meta["hashes"]))
        return bool(whole and meta["fingerprint"] == fingerprint and _age_ns(out / "dataset.json") >= newest_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _age_ns(path: Path) -> int:
    return path.stat().st_mtime_ns


@contextmanager
def open_partial(partial: Path, fingerprint: str, newest_ns: int, *, resume: bool) -> Iterator[Path]:
    """The folder for parts, for this process alone: what a stopped run left if it fits and is wanted, else empty.

    Raises:
        InputError: If something stands there that was not made here, or another process works there.
    """
    mark = partial / MARK
    if not mark.is_file() and not is_free(partial):
        raise InputError(f"{partial}", contents(partial), "nothing, or parts of an earlier run", "Move it away.")
    outdated = mark.is_file() and _age_ns(mark) < newest_ns
    with resumed_folder(partial, fingerprint, afresh=outdated or not resume):
        (partial / "parts").mkdir(exist_ok=True)
        yield partial

"""Where a set is made: raw data and foreign folders stay untouched, a stopped run goes on, a whole set stays."""

import json
import logging
import shutil
from pathlib import Path

from data_prep.inputs import contents
from hgisam.errors import InputError

log = logging.getLogger(__name__)

WRITTEN = {"dataset.json", "slices.parquet", "slices.zarr"}


def check_places(raw: Path, out: Path) -> None:
    """Keeps raw data and foreign folders safe.

    Raises:
        InputError: If `out` and `raw` lie in each other, or `out` is something that was not made here.
    """
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


def open_partial(partial: Path, fingerprint: str, newest_ns: int, *, resume: bool) -> Path:
    """The folder for parts: the one that a stopped run left if it fits and is wanted, else a new one.

    Raises:
        InputError: If something stands there that was not made here.
    """
    mark = partial / "fingerprint"
    if partial.exists() and not mark.is_file() and (not partial.is_dir() or any(partial.iterdir())):
        raise InputError(f"{partial}", contents(partial), "nothing, or parts of an earlier run", "Move it away.")
    if mark.is_file():
        if resume and mark.read_text() == fingerprint and _age_ns(mark) >= newest_ns:
            log.info("%s: going on where it was stopped", partial)
            return partial
        shutil.rmtree(partial)
    (partial / "parts").mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)
    return partial

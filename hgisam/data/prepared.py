"""The first contract: the prepared data set, which `data_prep` writes and `hgisam` reads.

A prepared data set is a folder of three or four files:

* `dataset.json`: format version, name, source, licence, counts, hashes, and a report of skipped slices with reasons.
* `slices.parquet`: one row per slice, in the order of the arrays; the columns are `COLUMNS`.
* `slices.zarr`: `hu` int16, `brain` uint8 and, where masks exist, `mask` uint8, all [slice, row, col];
  row 0 is anterior, col 0 is the patient's right, slices of a study ascend from the neck to the vertex.
* `boxes.parquet`, for a data set with boxes in place of masks: one row per box; the columns are `BOX_COLUMNS`.

HU is stored; windows are applied late. DICOM and torch are unknown here.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, PositiveInt

from hgisam.data.arrays import PREPARE_AGAIN, SliceArray, Slices
from hgisam.data.labels import LABELS, MASK_VALUES, SUBTYPES
from hgisam.errors import InputError
from hgisam.runs.files import check_content
from hgisam.runs.folders import bytes_of, sha256_of

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")

COLUMNS: dict[str, str] = {
    "patient": "object",  # hashed unless the data set is anonymous already
    "study": "object",
    "slice_index": "int64",  # 0 is the lowest slice of the study
    "source_index": "int64",  # index along the third axis of the source file, or position in the DICOM series
    "position_mm": "float64",  # along the table, from the lowest slice of the study
    "slice_mm": "float64",  # distance to the next slice
    "split": "object",  # one of SPLITS, the same for all slices of a patient
    "fold": "int64",  # cross-validation fold of the patient
    # 0 or 1; -1 where a bleed's subtype is not annotated, and for every label of an unlabelled data set
    **dict.fromkeys(LABELS, "int64"),
    "pixel_mm": "float64",  # pixel pitch of the prepared grid, the same along rows and columns
    # prepared pixel (r, c) is at native (native_row0 + r * native_step_row, native_col0 + c * native_step_col),
    # both counted from the centre of the first pixel, in the canonical orientation
    **dict.fromkeys(("native_rows", "native_cols"), "int64"),
    **dict.fromkeys(("native_row0", "native_col0", "native_step_row", "native_step_col"), "float64"),
}
BOX_COLUMNS: dict[str, str] = {
    "row": "int64",  # row of its slice in slices.parquet
    "type": "object",  # a name in MASK_VALUES
    # edges in prepared pixels, counted from the edge of the first pixel: pixel r reaches from r to r + 1
    **dict.fromkeys(("row0", "col0", "row1", "col1"), "float64"),
}


def check_slices(slices: pd.DataFrame) -> None:
    """Validate a table of slices.

    Raises:
        InputError: For a missing column, an invalid label or split, a patient in two splits, a duplicate slice.
    """
    _check_columns(slices, COLUMNS, "slices.parquet")
    if slices.empty:
        raise _invalid("slices.parquet", "no rows", "at least one slice")
    if texts := [c for c, kind in COLUMNS.items() if kind != "object" and not pd.api.types.is_numeric_dtype(slices[c])]:
        raise _invalid("slices.parquet columns", f"no numbers in {', '.join(texts)}", "numbers")
    if not (np.isfinite(slices["pixel_mm"]) & (slices["pixel_mm"] > 0)).all():
        raise _invalid("slices.parquet pixel_mm", "invalid lengths", "millimetres above 0")
    bleeds, types = slices["any"], slices[list(SUBTYPES)]
    valid = (bleeds == 1) & types.isin([-1, 0, 1]).all(axis=1) | (bleeds == 0) & (types == 0).all(axis=1)
    if not (valid.all() or (slices[list(LABELS)] == -1).all(axis=None)):
        expected = "any 0 or 1; subtypes 0 or 1, or -1 where a bleed's subtype is not annotated; or -1 in all of them"
        raise _invalid("slice labels", "other values", expected)
    if bad := set(slices["split"]) - set(SPLITS):
        raise _invalid("split", sorted(map(str, bad)), " or ".join(SPLITS))
    if (split_count := slices.groupby("patient")["split"].nunique()).gt(1).any():
        raise _invalid("split", f"patient {split_count.idxmax()} in several splits", "one split for each patient")
    if slices.duplicated(["study", "slice_index"]).any():
        raise _invalid("slices.parquet", "the same slice twice", "each slice once")


def check_boxes(boxes: pd.DataFrame, slices: pd.DataFrame, size_px: int) -> None:
    """Validate a table of boxes.

    Raises:
        InputError: For a missing column, a slice without a bleed, an unknown type, or edges outside the slice.
    """
    _check_columns(boxes, BOX_COLUMNS, "boxes.parquet")
    if not boxes["row"].isin(np.flatnonzero(slices["any"] == 1)).all():
        raise _invalid("boxes.parquet", "a box in a slice that does not bleed", "rows of bleeding slices")
    if bad := set(boxes["type"]) - set(MASK_VALUES):
        raise _invalid("boxes.parquet type", sorted(map(str, bad)), " or ".join(MASK_VALUES))
    low, high = boxes[["row0", "col0"]].to_numpy(), boxes[["row1", "col1"]].to_numpy()
    if not ((low >= 0) & (low < high) & (high <= size_px)).all():
        raise _invalid("boxes.parquet", "edges outside the slice", f"0 to {size_px}, first before last")


def _check_columns(table: pd.DataFrame, columns: Mapping[str, str], file: str) -> None:
    if missing := [column for column in columns if column not in table.columns]:
        raise _invalid(f"{file} columns", f"none named {', '.join(missing)}", ", ".join(columns))


def _invalid(what: str, got: object, expected: str) -> InputError:
    return InputError(what, got, expected, PREPARE_AGAIN)


class _Counts(BaseModel):
    patients: int
    studies: int
    slices: int


class _Meta(BaseModel):
    """Fields of `dataset.json` that its readers rely on."""

    format_version: int
    size_px: PositiveInt
    with_mask: bool
    counts: _Counts
    bytes: dict[str, int]
    hashes: dict[str, str]


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared data set, opened for reading; arrays stay on disk until they are indexed.

    Attributes:
        path: Its folder.
        meta: Content of `dataset.json`.
        slices: One row per slice with `COLUMNS`.
        hu: [slice, row, col] HU, like `brain`.
        mask: [slice, row, col], or None in a data set without masks.
        boxes: One row per box with `BOX_COLUMNS`, or None.

    Example:
        >>> slices = pd.DataFrame({"split": ["train", "test", "train"]})
        >>> hu = np.zeros((3, 8, 8), np.int16)
        >>> PreparedDataset(Path("mine"), {}, slices, hu, brain=hu, mask=None).rows("train")
        array([0, 2])
    """

    path: Path
    meta: dict[str, Any]
    slices: pd.DataFrame
    hu: Slices
    brain: Slices
    mask: Slices | None
    boxes: pd.DataFrame | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes with any slice, mask, label or split."""
        return hashlib.sha256(json.dumps(self.meta["hashes"], sort_keys=True).encode()).hexdigest()

    @property
    def is_phantom(self) -> bool:
        """True if its patients are synthetic."""
        return is_phantom(self.meta)

    @property
    def labelled(self) -> bool:
        """True if every slice has a label of bleeding."""
        return bool((self.slices["any"] >= 0).all())

    def rows(self, split: str | None = None) -> npt.NDArray[np.int64]:
        """Row numbers of a split ("train", "val", "test"), or of all slices."""
        if split is None:
            return np.arange(len(self.slices))
        return np.flatnonzero((self.slices["split"] == split).to_numpy())


def open_prepared(path: str | Path, *, verify: bool = False) -> PreparedDataset:
    """Open a prepared data set, after a check that no file is missing or of another size than written.

    Args:
        path: Folder that `python -m data_prep` wrote.
        verify: Also compare the hashes of the arrays, which reads everything.

    Raises:
        InputError: If a file is missing, of another format version, size or hash, or breaks the contract.

    Example:
        >>> import tempfile
        >>> from data_prep.prepared_set import write_prepared
        >>> row = dict.fromkeys(COLUMNS, 0) | {"patient": "p1", "study": "s1", "split": "train", "pixel_mm": 0.5}
        >>> block = np.full((1, 8, 8), 40, np.int16), np.ones((1, 8, 8), np.uint8), None
        >>> options = {"size_px": 8, "with_mask": False, "info": {"name": "mine"}}
        >>> path = write_prepared(f"{tempfile.mkdtemp()}/mine", slices=pd.DataFrame([row]), blocks=[block], **options)
        >>> open_prepared(path).hu.shape
        (1, 8, 8)
    """
    path, remedy = Path(path), "Run `python -m data_prep` again, or give the folder it wrote."
    if not (path / "dataset.json").is_file():
        got = "no dataset.json in it" if path.is_dir() else "no such folder"
        raise InputError(f"prepared data set {path}", got, "a prepared data set", remedy)
    try:
        meta = json.loads((path / "dataset.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}/dataset.json", f"unreadable ({error})", "valid JSON", remedy) from None
    found = check_content(_Meta, meta, f"{path}/dataset.json", "the output of `python -m data_prep`", remedy)
    if found.format_version != FORMAT_VERSION:
        raise InputError(f"{path}/dataset.json format", found.format_version, str(FORMAT_VERSION), remedy)
    if unlisted := {"slices.parquet", "slices.zarr", *found.hashes} - (found.hashes.keys() & found.bytes.keys()):
        got = f"none of {', '.join(sorted(unlisted))}"
        raise InputError(f"{path}/dataset.json", got, "hash and size of each file", remedy)
    for name, sha256 in found.hashes.items():
        if not (path / name).exists():
            raise InputError(f"prepared data set {path}", f"no {name}", "a complete data set", remedy)
        if (size := bytes_of(path / name)) != found.bytes[name]:
            raise InputError(f"{path}/{name}", f"{size} bytes", f"{found.bytes[name]} as written", remedy)
        if (verify or name.endswith(".parquet")) and sha256_of(path / name) != sha256:
            raise InputError(f"{path}/{name}", "another content than was written", f"SHA-256 {sha256[:12]}…", remedy)
    slices = pd.read_parquet(path / "slices.parquet")
    check_slices(slices)
    names = ["hu", "brain", *(["mask"] if found.with_mask else [])]
    arrays = {name: SliceArray(path / "slices.zarr" / name) for name in names}
    expected = f"shape {(len(slices), found.size_px, found.size_px)}"
    for name, array in arrays.items():
        try:
            got = f"shape {array.shape}"
        except ValueError:
            got = "missing or unreadable"
        if got != expected:
            raise InputError(f"{path}/slices.zarr/{name}", got, expected, remedy)
    boxes = None
    if "boxes.parquet" in found.hashes:
        boxes = pd.read_parquet(path / "boxes.parquet")
        check_boxes(boxes, slices, found.size_px)
    return PreparedDataset(path, meta, slices, arrays["hu"], arrays["brain"], arrays.get("mask"), boxes)


def by_fold(prepared: PreparedDataset, fold: int) -> PreparedDataset:
    """The data set split for k-fold cross-validation: one test fold, the next for validation, the others for training.

    Args:
        prepared: Its own split is ignored.
        fold: The test fold.

    Raises:
        InputError: If there is no such fold, or fewer than three.

    Example:
        >>> slices, hu = pd.DataFrame({"fold": [0, 1, 2, 3]}), np.zeros((4, 8, 8), np.int16)
        >>> prepared = PreparedDataset(Path("mine"), {}, slices, hu, brain=hu, mask=None)
        >>> by_fold(prepared, 1).slices["split"].tolist()
        ['train', 'test', 'val', 'train']
    """
    folds = sorted(prepared.slices["fold"].unique().tolist())
    if fold not in folds or len(folds) < 3:
        remedy = "Choose one of them, or prepare more patients with --folds 3 or more."
        raise InputError("train.fold", fold, f"one of the folds {folds} of {prepared.path.name}, three or more", remedy)
    validation = folds[(folds.index(fold) + 1) % len(folds)]
    split = prepared.slices["fold"].map({fold: "test", validation: "val"}).fillna("train")
    return replace(prepared, slices=prepared.slices.assign(split=split))


def warn_of_odd_hu(prepared: PreparedDataset) -> None:
    """Warn of studies without a brain or with an implausible one, by the report of the set: they may not be in HU."""
    report = prepared.meta.get("report", {})
    if count := sum(report.get(name, {}).get("count", 0) for name in ("no_brain", "odd_hu")):
        message = "%s: %d of %d studies don't look like a head in HU (no_brain, odd_hu in its dataset.json); check them"
        log.warning(message, prepared.path, count, prepared.meta["counts"]["studies"])


def require_masks(prepared: PreparedDataset) -> Slices:
    """The mask array of a data set; an InputError if it has none."""
    if prepared.mask is None:
        remedy = "Use a data set with pixel masks, such as CT-ICH."
        raise InputError(f"masks of {prepared.path}", "none", "a mask array", remedy)
    return prepared.mask


def is_phantom(meta: Mapping[str, Any]) -> bool:
    """True if a `dataset.json` describes a phantom, by its name or source."""
    return "phantom" in f"{meta.get('name', '')} {meta.get('source', '')}".lower()

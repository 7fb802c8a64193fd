"""The first contract: the prepared data set, which `data_prep` writes and `hgisam` reads.

A prepared data set is a folder with three or four things:

* `dataset.json`: format version, name, source, licence, counts, hashes, and a report of what was skipped and why.
* `slices.parquet`: one row a slice, in the order of the arrays; the columns are `COLUMNS`.
* `slices.zarr`: `hu` int16, `brain` uint8 and, where masks exist, `mask` uint8, all [slice, row, col];
  row 0 is anterior, col 0 is the patient's right, slices of a study ascend from the neck to the vertex.
* `boxes.parquet`, where somebody drew boxes instead of masks: one row a box; the columns are `BOX_COLUMNS`.

HU is stored; windows are applied late. The module knows neither DICOM nor torch.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, PositiveInt

from hgisam.data.arrays import SliceArray, Slices, write_arrays
from hgisam.errors import InputError
from hgisam.runs.files import check_content
from hgisam.runs.folders import bytes_of, sha256_of, whole_folder

FORMAT_VERSION = 1
SUBTYPES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
LABELS = ("any", *SUBTYPES)
MASK_VALUES = {name: value for value, name in enumerate(SUBTYPES, start=1)} | {"unspecified": 6}
SPLITS = ("train", "val", "test")

COLUMNS: dict[str, str] = {
    "patient": "object",  # hashed unless the set is anonymous already
    "study": "object",
    "slice_index": "int64",  # 0 is the lowest slice of the study
    "source_index": "int64",  # index along the third axis of the source file, or position in the DICOM series
    "position_mm": "float64",  # along the table, from the lowest slice of the study
    "slice_mm": "float64",  # distance to the next slice
    "split": "object",  # one of SPLITS; all slices of a patient share it
    "fold": "int64",  # cross-validation fold of the patient
    # 0 or 1; a subtype is -1 where a slice bleeds and nobody said of which type, all are in a set without labels
    **dict.fromkeys(LABELS, "int64"),
    "pixel_mm": "float64",  # pitch of the prepared grid, the same along rows and columns
    # prepared pixel (r, c) lies at native (native_row0 + r * native_step_row, native_col0 + c * native_step_col),
    # both counted from the centre of the first pixel, in the canonical orientation
    "native_rows": "int64",
    "native_cols": "int64",
    "native_row0": "float64",
    "native_col0": "float64",
    "native_step_row": "float64",
    "native_step_col": "float64",
}

# drawn around bleeds where a set has boxes: `boxes.parquet`, a row a box
BOX_COLUMNS: dict[str, str] = {
    "row": "int64",  # row of its slice in slices.parquet
    "type": "object",  # a name in MASK_VALUES
    # edges in prepared pixels, counted from that of the first pixel: pixel r reaches from r to r + 1
    "row0": "float64",
    "col0": "float64",
    "row1": "float64",
    "col1": "float64",
}


StudyArrays = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]


def write_prepared(
    out: Path,
    *,
    slices: pd.DataFrame,
    blocks: Iterable[StudyArrays],
    size_px: int,
    with_mask: bool,
    info: dict[str, Any],
    boxes: pd.DataFrame | None = None,
) -> Path:
    """Writes a whole prepared data set, or nothing.

    Args:
        out: Folder to make.
        slices: One row a slice with `COLUMNS`.
        blocks: (hu, brain, mask) per study, each [slice, size_px, size_px]; concatenated they match `slices`.
        size_px: Side of the square slices.
        with_mask: Whether the blocks carry masks.
        info: Goes into `dataset.json`: at least name, source, licence, report.
        boxes: One row a box with `BOX_COLUMNS`, for a set that has boxes.

    Raises:
        InputError: If the rows break the contract (columns, labels, a patient in two splits, a box of no slice).
    """
    check_slices(slices)
    if boxes is not None:
        check_boxes(boxes, slices, size_px)
    n = len(slices)
    with whole_folder(out) as scratch:
        dtypes = {"hu": "int16", "brain": "uint8"} | ({"mask": "uint8"} if with_mask else {})
        write_arrays(scratch / "slices.zarr", dtypes, (n, size_px, size_px), blocks)
        slices[list(COLUMNS)].astype(COLUMNS).to_parquet(scratch / "slices.parquet", index=False)
        written = ["slices.parquet", "slices.zarr"]
        if boxes is not None:
            boxes[list(BOX_COLUMNS)].astype(BOX_COLUMNS).to_parquet(scratch / "boxes.parquet", index=False)
            written.append("boxes.parquet")
        meta = {
            "format_version": FORMAT_VERSION,
            **info,
            "size_px": size_px,
            "with_mask": with_mask,
            "counts": {
                "patients": int(slices["patient"].nunique()),
                "studies": int(slices["study"].nunique()),
                "slices": n,
                **{label: int((slices[label] == 1).sum()) for label in LABELS},
            },
            "bytes": {name: bytes_of(scratch / name) for name in written},
            "hashes": {name: sha256_of(scratch / name) for name in written},
        }
        (scratch / "dataset.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n")
    return out


def check_slices(slices: pd.DataFrame) -> None:
    """Holds a slice table to the contract.

    Raises:
        InputError: For a missing column, a label or split outside its values, a patient in two splits, a doubled slice.
    """
    remedy = "Run `python -m data_prep` again."
    if missing := [column for column in COLUMNS if column not in slices.columns]:
        raise InputError("slices.parquet columns", f"none named {', '.join(missing)}", ", ".join(COLUMNS), remedy)
    if slices.empty:
        raise InputError("slices.parquet", "no rows", "at least one slice", remedy)
    numbers = [column for column, kind in COLUMNS.items() if kind != "object"]
    if words := [column for column in numbers if not pd.api.types.is_numeric_dtype(slices[column])]:
        raise InputError("slices.parquet columns", f"no numbers in {', '.join(words)}", "numbers", remedy)
    if not (np.isfinite(slices["pixel_mm"]) & (slices["pixel_mm"] > 0)).all():
        raise InputError("slices.parquet pixel_mm", "values that are no length", "millimetres above 0", remedy)
    bleeds, types = slices["any"], slices[list(SUBTYPES)]
    told = (bleeds == 1) & types.isin([-1, 0, 1]).all(axis=1) | (bleeds == 0) & (types == 0).all(axis=1)
    if not (told.all() or (slices[list(LABELS)] == -1).all(axis=None)):
        expected = "any 0 or 1; subtypes 0 or 1, -1 where one bleeds and nobody said which; or -1 in all of them"
        raise InputError("slice labels", "other values", expected, remedy)
    if bad := set(slices["split"]) - set(SPLITS):
        raise InputError("split", sorted(map(str, bad)), " or ".join(SPLITS), remedy)
    if (split_count := slices.groupby("patient")["split"].nunique()).gt(1).any():
        patient = split_count.idxmax()
        raise InputError("split", f"patient {patient} in several splits", "one split for each patient", remedy)
    if slices.duplicated(["study", "slice_index"]).any():
        raise InputError("slices.parquet", "the same slice twice", "each slice once", remedy)


def check_boxes(boxes: pd.DataFrame, slices: pd.DataFrame, size_px: int) -> None:
    """Holds a table of boxes to the contract.

    Raises:
        InputError: For a missing column, a row that is no bleeding slice, another type, or edges outside the slice.
    """
    remedy = "Run `python -m data_prep` again."
    if missing := [column for column in BOX_COLUMNS if column not in boxes.columns]:
        raise InputError("boxes.parquet columns", f"none named {', '.join(missing)}", ", ".join(BOX_COLUMNS), remedy)
    if not boxes["row"].isin(np.flatnonzero(slices["any"] == 1)).all():
        raise InputError("boxes.parquet", "a box in a slice that does not bleed", "rows of bleeding slices", remedy)
    if bad := set(boxes["type"]) - set(MASK_VALUES):
        raise InputError("boxes.parquet type", sorted(map(str, bad)), " or ".join(MASK_VALUES), remedy)
    low, high = boxes[["row0", "col0"]].to_numpy(), boxes[["row1", "col1"]].to_numpy()
    if not ((low >= 0) & (low < high) & (high <= size_px)).all():
        raise InputError("boxes.parquet", "edges outside the slice", f"0 to {size_px}, first before last", remedy)


class _Counts(BaseModel):
    patients: int
    studies: int
    slices: int


class _Meta(BaseModel):
    """What readers of a `dataset.json` count on."""

    format_version: int
    size_px: PositiveInt
    with_mask: bool
    counts: _Counts
    bytes: dict[str, int]
    hashes: dict[str, str]


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared data set, opened for reading; arrays stay on disk until they are indexed."""

    path: Path
    meta: dict[str, Any]
    slices: pd.DataFrame
    hu: Slices
    brain: Slices
    mask: Slices | None
    boxes: pd.DataFrame | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes when any slice, mask, label or split changes."""
        return hashlib.sha256(json.dumps(self.meta["hashes"], sort_keys=True).encode()).hexdigest()

    @property
    def is_phantom(self) -> bool:
        """Whether its patients are synthetic."""
        return is_phantom(self.meta)

    @property
    def labelled(self) -> bool:
        """Whether it is known which slices bleed."""
        return bool((self.slices["any"] >= 0).all())

    def rows(self, split: str | None = None) -> npt.NDArray[np.int64]:
        """Row numbers of a split ("train", "val", "test"), or of all slices."""
        if split is None:
            return np.arange(len(self.slices))
        return np.flatnonzero((self.slices["split"] == split).to_numpy())


def open_prepared(path: Path, *, verify: bool = False) -> PreparedDataset:
    """Opens a prepared data set and refuses one that is incomplete: whose files are not as large as they were written.

    Args:
        path: The folder that `python -m data_prep` wrote.
        verify: Also hash the arrays (reads everything).

    Raises:
        InputError: If a file is missing, of another format version, or does not fit its hash.
    """
    remedy = "Run `python -m data_prep` again, or give the folder it wrote."
    if not (path / "dataset.json").is_file():
        got = "no dataset.json in it" if path.is_dir() else "no such folder"
        raise InputError(f"prepared data set {path}", got, "a prepared data set", remedy)
    try:
        meta = json.loads((path / "dataset.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}/dataset.json", f"unreadable ({error})", "valid JSON", remedy) from None
    found = check_content(_Meta, meta, f"{path}/dataset.json", "what `python -m data_prep` writes", remedy)
    if found.format_version != FORMAT_VERSION:
        raise InputError(f"{path}/dataset.json format", found.format_version, str(FORMAT_VERSION), remedy)
    hashes, sizes = found.hashes, found.bytes
    if unsealed := {"slices.parquet", "slices.zarr", *hashes} - (hashes.keys() & sizes.keys()):
        expected = "hash and size of each file"
        raise InputError(f"{path}/dataset.json", f"none of {', '.join(sorted(unsealed))}", expected, remedy)
    for name, expected in hashes.items():
        if not (path / name).exists():
            raise InputError(f"prepared data set {path}", f"no {name}", "a whole data set", remedy)
        if (size := bytes_of(path / name)) != sizes[name]:
            raise InputError(f"{path}/{name}", f"{size} bytes", f"{sizes[name]} as they were written", remedy)
        if (verify or name.endswith(".parquet")) and sha256_of(path / name) != expected:
            raise InputError(f"{path}/{name}", "another content than was written", f"SHA-256 {expected[:12]}…", remedy)
    slices = pd.read_parquet(path / "slices.parquet")
    check_slices(slices)
    shape = (len(slices), meta["size_px"], meta["size_px"])
    arrays = {}
    for name in ["hu", "brain"] + (["mask"] if meta["with_mask"] else []):
        arrays[name] = SliceArray(path / "slices.zarr" / name)
        try:
            shape_found = arrays[name].shape
        except ValueError:
            raise InputError(f"{path}/slices.zarr/{name}", "missing or unreadable", f"shape {shape}", remedy) from None
        if shape_found != shape:
            raise InputError(f"{path}/slices.zarr/{name}", f"shape {shape_found}", f"shape {shape}", remedy)
    boxes = None
    if "boxes.parquet" in hashes:
        boxes = pd.read_parquet(path / "boxes.parquet")
        check_boxes(boxes, slices, meta["size_px"])
    return PreparedDataset(path, meta, slices, arrays["hu"], arrays["brain"], arrays.get("mask"), boxes)


def by_fold(prepared: PreparedDataset, fold: int) -> PreparedDataset:
    """The same set split for cross-validation: one fold is the test, the next validates, the others train.

    Args:
        prepared: Its own split is put aside.
        fold: The one that is held out.

    Raises:
        InputError: If there is no such fold, or fewer than three.
    """
    folds = sorted(prepared.slices["fold"].unique().tolist())
    if fold not in folds or len(folds) < 3:
        remedy = "Choose one of them, or prepare more patients with --folds 3 or more."
        raise InputError("train.fold", fold, f"one of the folds {folds} of {prepared.path.name}, three or more", remedy)
    validates = folds[(folds.index(fold) + 1) % len(folds)]
    role = prepared.slices["fold"].map({fold: "test", validates: "val"}).fillna("train")
    return replace(prepared, slices=prepared.slices.assign(split=role))


def require_masks(prepared: PreparedDataset) -> Slices:
    """The mask array of a set.

    Raises:
        InputError: If it has none.
    """
    if prepared.mask is None:
        remedy = "Use a set with pixel masks, such as CT-ICH."
        raise InputError(f"masks of {prepared.path}", "none", "a mask array", remedy)
    return prepared.mask


def is_phantom(meta: Mapping[str, Any]) -> bool:
    """Whether a prepared set was made from phantoms, going by its `dataset.json`."""
    return "phantom" in f"{meta.get('name', '')} {meta.get('source', '')}".lower()

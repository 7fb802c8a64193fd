"""The CQ500 layout with the boxes of BHX: `CQ500CT<n> CQ500CT<n>/**/*.dcm`, `reads.csv`, `3_Extrapolation_*.csv`.

Three radiologists read each scan as a whole; others annotated bleeds with boxes, slice by slice. A slice is positive if
it has a box. It is negative if it has none and other slices of its series have, or if at least two of three readers saw
no bleed in the scan. Other slices are not annotated and stay out. Each scan contributes one series.

Source: Chilamkurthy et al. 2018, Lancet 392:2388; Reis et al. 2020, doi 10.13026/9cft-hg92.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.dicom import Series, find_series, read_series, volumes_in_series
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.raw_folder import (
    FIX_CSV,
    Listing,
    contents,
    count_and_first,
    entries_below,
    first_names,
    read_csv,
    require,
)
from data_prep.volume import Study, Volume, no_boxes
from hgisam.data.labels import LABELS, MASK_VALUES, SUBTYPES
from hgisam.errors import InputError

NAME = "cq500"
LICENCE = "CQ500: CC BY-NC-SA 4.0; BHX: as published on PhysioNet"
ANNOTATIONS, MAIN_SPLIT, PUBLIC = "boxes", "test", True
READINGS = "reads.csv"
BOX_TABLES = (  # the first that exists is read: boxes in all slices of one series, of all series, in some slices
    "3_Extrapolation_to_Selected_Series.csv", "2_Extrapolation_to_All_Series.csv", "1_Initial_Manual_Labeling.csv"
)  # fmt: skip
CHRONIC = "chronic"  # has boxes too, but is no acute bleed: such a slice is neither positive nor negative
MIN_READERS = 2  # of three readers
PATIENT = re.compile(r"CQ500CT([0-9]+)")
OTHER_SERIES = re.compile(r"bone|angio|\bcta\b|post|(?<!non.)(?<!pre.)contrast", re.IGNORECASE)
TYPICAL_MM = 5.0
TAGS = ("SOPInstanceUID", "SeriesDescription", "ConvolutionKernel", "SliceThickness")


class Box(NamedTuple):
    """An annotated box: subtype, and edges in pixels, counted from the edge of the first pixel."""

    kind: str
    row0: float
    col0: float
    row1: float
    col1: float


def tables(raw: str | Path) -> list[Path]:
    """The CSV files of the readings and of the boxes.

    Raises:
        InputError: If `raw` has another layout.
    """
    raw = Path(raw)
    require(raw, [READINGS], "CQ500")
    found = [raw / name for name in BOX_TABLES if (raw / name).is_file()]
    if not found:
        got, remedy = contents(raw), "Put the CSV file of BHX beside reads.csv."
        raise InputError(f"CQ500 folder {raw}", got, " or ".join(BOX_TABLES), remedy)
    return [raw / READINGS, found[0]]


def images(raw: str | Path) -> list[Path]:
    """All files in the folders of the scans, sorted, without hidden ones.

    Raises:
        InputError: If there is none, or a folder can't be listed.
    """
    found = [path for path in entries_below(raw) if path.parent != Path(raw) and path.is_file()]
    if not found:
        expected = "CQ500CT<n> CQ500CT<n>/…/CT000000.dcm"
        raise InputError(f"{raw}", "no .dcm file", expected, "Unpack the scans into it.")
    return found


def list_studies(raw: str | Path, workers: Workers, public_id: PublicId) -> Listing:
    """Chooses one series per scan and joins its images with readings and boxes.

    Raises:
        InputError: If a CSV file is invalid, or no box belongs to an image.
    """
    raw = Path(raw)
    readings, boxes = read_readings(raw / READINGS), read_boxes(tables(raw)[1])
    files = [path.relative_to(raw).as_posix() for path in images(raw)]
    found, skipped = find_series(raw, files, workers, public_id, tags=TAGS)
    listing = Listing([], skipped)
    scans: dict[str, list[Series]] = defaultdict(list)
    for series in found:
        if number := PATIENT.search(series.files[0]):
            scans[f"CQ500-CT-{int(number[1])}"].append(series)
        else:
            listing.skipped.append((series.files[0], "its series is in no folder named CQ500CT<n>"))
    present = {uid for series in found for uid, *_ in series.tags}
    if not present & set(boxes):
        got, expected = "boxes of other images", "boxes of these images"
        raise InputError(tables(raw)[1].name, got, expected, "Give the CSV file of these scans.")
    counts: Counter[str] = Counter()
    for name in sorted(scans, key=lambda key: int(key.rpartition("-")[2])):
        series = _choose_series(scans[name], boxes)
        counts["series_not_chosen"] += len(scans[name]) - 1
        if name not in readings:
            listing.skipped.append((series.files[0], f"no row of {READINGS} for its patient"))
            continue
        listing.studies.append(_study(name, series, readings[name], boxes, counts))
    listing.counts = {
        "boxes_of": tables(raw)[1].name,
        **volumes_in_series(found),
        **{key: counts[key] for key in ("series_not_chosen", "slices_chronic_only", "boxes_against_readers")},
        "boxes_without_image": sum(len(found) for uid, found in boxes.items() if uid not in present),
        "readings_without_images": count_and_first([name for name in readings if name not in scans]),
    }
    return listing


def _choose_series(series: Sequence[Series], boxes: Mapping[str, list[Box]]) -> Series:
    """The series with most annotated images; without any, a plain one of about 5 mm, no bone kernel, no contrast."""

    def rank(one: Series) -> tuple[float, ...]:
        annotated = sum(uid in boxes for uid, *_ in one.tags)
        _, description, kernel, thickness = one.tags[0]
        other = OTHER_SERIES.search(f"{Path(one.files[0]).parent.name} {description} {kernel}")
        difference_mm = abs(float(thickness) - TYPICAL_MM) if re.fullmatch(r"[0-9.]+", thickness) else np.inf
        return -annotated, float(other is not None), difference_mm

    return min(series, key=rank)


def _study(name: str, series: Series, bleeds: bool, boxes: Mapping[str, list[Box]], counts: Counter[str]) -> Study:
    """Joins labels and boxes of a series; `counts` gets its chronic and contradictory slices."""
    annotated = [boxes.get(uid, []) for uid, *_ in series.tags]
    acute = [[box for box in found if box.kind != CHRONIC] for found in annotated]
    known = any(annotated) or not bleeds
    labels = np.full((len(series.files), len(LABELS)), -1, np.int8)
    for label, all_boxes, acute_boxes in zip(labels, annotated, acute, strict=True):
        if acute_boxes:
            kinds = {box.kind for box in acute_boxes}
            label[:] = [1, *(int(kind in kinds) for kind in SUBTYPES)]
        elif known and not all_boxes:
            label[:] = 0
    counts["slices_chronic_only"] += sum(
        bool(all_boxes) and not acute_boxes for all_boxes, acute_boxes in zip(annotated, acute, strict=True)
    )
    counts["boxes_against_readers"] += 0 if bleeds else sum(map(len, acute))
    rows = [[index, MASK_VALUES[box.kind], *box[1:]] for index, found in enumerate(acute) for box in found]
    boxes_ = np.array(rows, float) if rows else no_boxes()
    return Study(name, name, series.files, labels, boxes=boxes_, frames=series.frames)


def read_readings(path: str | Path) -> dict[str, bool]:
    """Majority reading per scan: patient → True if at least two of three readers saw any bleed.

    Raises:
        InputError: For values other than 0 and 1, or a patient with two rows.
    """
    path = Path(path)
    readers = [f"R{number}:ICH" for number in (1, 2, 3)]
    table = read_csv(path, ["name", *readers]).apply(lambda column: column.str.strip())
    for column in readers:
        if not (fits := table[column].isin(["0", "1"])).all():
            got = f"{table[column][~fits].iloc[0]!r} for {table['name'][~fits].iloc[0]}"
            raise InputError(f"{path.name} column {column}", got, "0 or 1", FIX_CSV)
    if (repeated := table["name"].duplicated()).any():
        raise InputError(path.name, f"{table['name'][repeated].iloc[0]} twice", "one row per patient", FIX_CSV)
    votes = (table[readers] == "1").sum(axis=1)
    return dict(zip(table["name"], (votes >= MIN_READERS).tolist(), strict=True))


def read_boxes(path: str | Path) -> dict[str, list[Box]]:
    """Annotated boxes per image: SOPInstanceUID → boxes.

    Raises:
        InputError: For an unknown subtype, or an invalid box.
    """
    path = Path(path)
    table = read_csv(path, ["SOPInstanceUID", "data", "labelName"]).apply(lambda column: column.str.strip())
    kinds = table["labelName"].str.lower()
    known = (*SUBTYPES, CHRONIC)
    if not (fits := kinds.isin(known)).all():
        got = repr(table["labelName"][~fits].iloc[0])
        raise InputError(f"{path.name} column labelName", got, first_names(known, 6), FIX_CSV)
    boxes: dict[str, list[Box]] = defaultdict(list)
    for row, (uid, data, kind) in enumerate(zip(table["SOPInstanceUID"], table["data"], kinds, strict=True), start=2):
        boxes[uid].append(Box(kind, *_edges(data, f"{path.name} column data in row {row}")))
    return dict(boxes)


def _edges(data: str, what: str) -> tuple[float, float, float, float]:
    """Edges of a box from its text {'x': …, 'y': …, 'width': …, 'height': …}; x runs along a row."""
    try:
        box = ast.literal_eval(data)
        left, top, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (ValueError, SyntaxError, KeyError, TypeError):
        left = top = width = height = np.nan
    if not (np.isfinite([left, top]).all() and width > 0 and height > 0):
        raise InputError(what, repr(data[:80]), "x, y, width and height, the last two above 0", FIX_CSV)
    return top, left, top + height, left + width


def read_study(raw: str | Path, study: Study) -> Volume:
    """Reads the images of one series; see `read_series`."""
    return read_series(raw, study)

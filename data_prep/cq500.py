"""The CQ500 layout with the boxes of BHX: `CQ500CT<n> CQ500CT<n>/**/*.dcm`, `reads.csv`, `3_Extrapolation_*.csv`.

Three radiologists read each scan as a whole; others drew boxes around bleeds, slice by slice. A slice bleeds where it
has a box; it does not where others of its series have and it has none, or where two of three readers saw no bleed in
the scan. What is left is unknown and stays out. Of each scan one series is taken.

Source: Chilamkurthy et al. 2018, Lancet 392:2388; Reis et al. 2020, doi 10.13026/9cft-hg92.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.dicom import Series, find_series, read_series
from data_prep.inputs import Listing, contents, counted, entries_below, read_csv, require, some
from data_prep.parallel import Workers
from data_prep.privacy import PublicId
from data_prep.volume import Study, Volume, no_boxes
from hgisam.data.prepared import LABELS, MASK_VALUES, SUBTYPES
from hgisam.errors import InputError

NAME = "cq500"
LICENCE = "CQ500: CC BY-NC-SA 4.0; BHX: as published on PhysioNet"
TRUTH, REST, PUBLIC = "boxes", "test", True
READS = "reads.csv"
DRAWN = (  # the best of them that is there: bleeds boxed in all slices of one series, of all series, in some slices
    "3_Extrapolation_to_Selected_Series.csv", "2_Extrapolation_to_All_Series.csv", "1_Initial_Manual_Labeling.csv"
)  # fmt: skip
CHRONIC = "chronic"  # boxed too, but no acute bleed: such a slice is neither
AGREE = 2  # of three readers
PATIENT = re.compile(r"CQ500CT([0-9]+)")
OTHER_SERIES = re.compile(r"bone|angio|\bcta\b|post|(?<!non.)(?<!pre.)contrast", re.IGNORECASE)
TYPICAL_MM = 5.0
TAGS = ("SOPInstanceUID", "SeriesDescription", "SliceThickness")


class Box(NamedTuple):
    """What somebody drew in an image: a type of bleed, and edges in pixels from that of the first one."""

    kind: str
    row0: float
    col0: float
    row1: float
    col1: float


def tables(raw: Path) -> list[Path]:
    """The readings and the boxes.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [READS], "CQ500")
    found = [raw / name for name in DRAWN if (raw / name).is_file()]
    if not found:
        got, remedy = contents(raw), "Put the csv of BHX beside reads.csv."
        raise InputError(f"CQ500 folder {raw}", got, " or ".join(DRAWN), remedy)
    return [raw / READS, found[0]]


def images(raw: Path) -> list[Path]:
    """All DICOM files, sorted.

    Raises:
        InputError: If there is none, or a folder can't be listed.
    """
    found = [path for path in entries_below(raw) if path.suffix == ".dcm" and path.is_file()]
    if not found:
        expected = "CQ500CT<n> CQ500CT<n>/…/CT000000.dcm"
        raise InputError(f"{raw}", "no .dcm file", expected, "Unpack the scans into it.")
    return found


def list_studies(raw: Path, workers: Workers, public_id: PublicId) -> Listing:
    """Takes one series of each scan, and joins its images with readings and boxes.

    Raises:
        InputError: If a csv is broken, or no box belongs to any image.
    """
    reads, drawn = read_reads(raw / READS), read_boxes(tables(raw)[1])
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
    if not present & set(drawn):
        got, expected = "boxes of other images", "boxes of these images"
        raise InputError(tables(raw)[1].name, got, expected, "Give the csv that belongs to these scans.")
    counts: Counter[str] = Counter()
    for name in sorted(scans, key=lambda key: int(key.rpartition("-")[2])):
        series = _chosen(scans[name], drawn)
        counts["series_not_chosen"] += len(scans[name]) - 1
        if name not in reads:
            listing.skipped.append((series.files[0], f"no row of {READS} for its patient"))
            continue
        listing.studies.append(_study(name, series, reads[name], drawn, counts))
    listing.counts = {
        "boxes_of": tables(raw)[1].name,
        **{what: counts[what] for what in ("series_not_chosen", "slices_chronic_only", "boxes_against_readers")},
        "boxes_without_image": sum(len(boxes) for uid, boxes in drawn.items() if uid not in present),
        "readings_without_images": counted([name for name in reads if name not in scans]),
    }
    return listing


def _chosen(series: Sequence[Series], drawn: Mapping[str, list[Box]]) -> Series:
    """The series with most boxed images; among those without, a plain one of about 5 mm, not for bone or contrast."""

    def worth(one: Series) -> tuple[float, ...]:
        boxed = sum(uid in drawn for uid, *_ in one.tags)
        _, description, thickness = one.tags[0]
        other = OTHER_SERIES.search(f"{Path(one.files[0]).parent.name} {description}")
        away = abs(float(thickness) - TYPICAL_MM) if re.fullmatch(r"[0-9.]+", thickness) else np.inf
        return -boxed, float(other is not None), away

    return min(series, key=worth)


def _study(name: str, series: Series, bleeds: bool, drawn: Mapping[str, list[Box]], counts: Counter[str]) -> Study:
    """Labels and boxes of a series; counts what is odd."""
    boxes = [drawn.get(uid, []) for uid, *_ in series.tags]
    acute = [[box for box in mine if box.kind != CHRONIC] for mine in boxes]
    known = any(boxes) or not bleeds
    labels = np.full((len(series.files), len(LABELS)), -1, np.int8)
    for label, mine, some_acute in zip(labels, boxes, acute, strict=True):
        if some_acute:
            kinds = {box.kind for box in some_acute}
            label[:] = [1, *(int(kind in kinds) for kind in SUBTYPES)]
        elif known and not mine:
            label[:] = 0
    counts["slices_chronic_only"] += sum(
        bool(mine) and not some_acute for mine, some_acute in zip(boxes, acute, strict=True)
    )
    counts["boxes_against_readers"] += 0 if bleeds else sum(map(len, acute))
    placed = [[index, MASK_VALUES[box.kind], *box[1:]] for index, mine in enumerate(acute) for box in mine]
    return Study(name, name, series.files, labels, boxes=np.array(placed, float) if placed else no_boxes())


def read_reads(path: Path) -> dict[str, bool]:
    """Patient → whether at least two of three readers saw a bleed of any kind in the scan.

    Raises:
        InputError: For values other than 0 and 1, or a patient that is listed twice.
    """
    readers = [f"R{number}:ICH" for number in (1, 2, 3)]
    table = read_csv(path, ["name", *readers]).apply(lambda column: column.str.strip())
    for column in readers:
        if not (fits := table[column].isin(["0", "1"])).all():
            got = f"{table[column][~fits].iloc[0]!r} for {table['name'][~fits].iloc[0]}"
            raise InputError(f"{path.name} column {column}", got, "0 or 1", "Mend the csv.")
    if (twice := table["name"].duplicated()).any():
        raise InputError(path.name, f"{table['name'][twice].iloc[0]} twice", "a row a patient", "Mend the csv.")
    votes = (table[readers] == "1").sum(axis=1)
    return dict(zip(table["name"], (votes >= AGREE).tolist(), strict=True))


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """SOPInstanceUID of an image → the boxes that were drawn in it.

    Raises:
        InputError: For another type of bleed, or a box that is none.
    """
    table = read_csv(path, ["SOPInstanceUID", "data", "labelName"]).apply(lambda column: column.str.strip())
    kinds = table["labelName"].str.lower()
    known = (*SUBTYPES, CHRONIC)
    if not (fits := kinds.isin(known)).all():
        raise InputError(
            f"{path.name} column labelName", repr(table["labelName"][~fits].iloc[0]), some(known, 6), "Mend the csv."
        )
    drawn: dict[str, list[Box]] = defaultdict(list)
    for row, (uid, data, kind) in enumerate(zip(table["SOPInstanceUID"], table["data"], kinds, strict=True), start=2):
        drawn[uid].append(Box(kind, *_edges(data, f"{path.name} column data in row {row}")))
    return dict(drawn)


def _edges(data: str, what: str) -> tuple[float, float, float, float]:
    """Edges of a box that is written as {'x': …, 'y': …, 'width': …, 'height': …}, x along a row."""
    try:
        said = ast.literal_eval(data)
        left, top, width, height = (float(said[key]) for key in ("x", "y", "width", "height"))
    except (ValueError, SyntaxError, KeyError, TypeError):
        left = top = width = height = np.nan
    if not (np.isfinite([left, top]).all() and width > 0 and height > 0):
        raise InputError(what, repr(data[:80]), "x, y, width and height, the last two above 0", "Mend the csv.")
    return top, left, top + height, left + width


def read_study(raw: Path, study: Study) -> Volume:
    """Reads the images of one series; see `read_series`."""
    return read_series(raw, study)

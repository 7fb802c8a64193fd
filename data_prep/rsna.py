"""The RSNA 2019 layout: `stage_2_train.csv` with six rows an image, and `stage_2_train/ID_*.dcm`.

Source: Flanders et al. 2020, Radiology: Artificial Intelligence 2(3):e190211. The mended intercept is the known fix of
the competition (BitsStored 12, unsigned, RescaleIntercept > -100).
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
from pydicom.errors import InvalidDicomError

from data_prep.inputs import Listing, counted, quiet_readers, read_csv, require, some
from data_prep.privacy import public_id
from data_prep.volume import AIR_HU, Floats, Remarks, Study, UnusableError, Volume, canonical
from hgisam.errors import InputError
from hgisam.parallel import run_all
from hgisam.prepared import LABELS

NAME = "rsna"
LICENCE = "RSNA 2019 terms: non-commercial research and education, cite, no re-identification"
MASKED, REST = False, "train"
TABLE, FOLDER = "stage_2_train.csv", "stage_2_train"
IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
HEADERS_A_TASK = 500
UNREADABLE = (  # what broken bytes make pydicom raise
    InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError,
    RuntimeError, ArithmeticError, IndexError,
)  # fmt: skip


def tables(raw: Path) -> list[Path]:
    """The csv.

    Raises:
        InputError: If `raw` has not this layout.
    """
    require(raw, [TABLE, f"{FOLDER}/"], "RSNA")
    return [raw / TABLE]


def images(raw: Path) -> list[Path]:
    """All DICOM files, sorted.

    Raises:
        InputError: If there is none.
    """
    files = sorted((raw / FOLDER).glob("*.dcm"))
    if not files:
        raise InputError(f"{raw / FOLDER}", "no .dcm file", "ID_*.dcm", "Unpack the images into it.")
    return files


def list_studies(raw: Path, jobs: int) -> Listing:
    """Groups the images into series and gives each its labels.

    Raises:
        InputError: If the csv contradicts itself or no label belongs to any image.
    """
    labels, twice = read_labels(raw / TABLE)
    files = [f"{FOLDER}/{path.name}" for path in images(raw)]
    chunks = [files[start : start + HEADERS_A_TASK] for start in range(0, len(files), HEADERS_A_TASK)]
    headers = [
        header for found in run_all(_read_headers, [(raw, c) for c in chunks], jobs, "headers") for header in found
    ]
    skipped = [(header["file"], header["reason"]) for header in headers if "reason" in header]
    good = [header for header in headers if "reason" not in header]
    seen = {Path(file).stem for file in files}
    matching = sum(name in labels.index for name in seen)
    if not matching:
        raise InputError(
            TABLE, f"labels of {some(list(labels.index), 2)}", f"labels of {some(sorted(seen), 2)}",
            "Give the csv that belongs to these images.",
        )  # fmt: skip
    several = Counter(study for _, study, _ in {tuple(header[tag] for tag in IDENTITY) for header in good})
    groups: dict[tuple[str, str], list[str]] = {}
    anonymous = (raw / "phantom.json").is_file()
    for header in good:
        patient, study, series = (header[tag] for tag in IDENTITY)
        name = public_id(study, anonymous=anonymous)
        if several[study] > 1:
            name += "." + public_id(series, anonymous=anonymous)
        groups.setdefault((public_id(patient, anonymous=anonymous), name), []).append(header["file"])
    unlabelled = [-1] * len(LABELS)
    known = dict(zip(labels.index, labels.to_numpy().tolist(), strict=True))
    studies = [
        Study(patient, study, tuple(members), np.array([known.get(Path(m).stem, unlabelled) for m in members], np.int8))
        for (patient, study), members in sorted(groups.items())
    ]
    return Listing(
        studies, skipped,
        {
            "duplicate_label_rows": twice,
            "labels_without_image": counted([name for name in labels.index if name not in seen]),
        },
    )  # fmt: skip


def read_labels(path: Path) -> tuple[pd.DataFrame, int]:
    """Reads the csv.

    Returns:
        One row an image (index: image id), columns `LABELS`, 0 or 1, -1 in all of them where some are missing; and the
        number of rows that repeat another.

    Raises:
        InputError: For ids or labels of another form, or labels of one image that contradict each other.
    """
    table = read_csv(path, ["ID", "Label"])
    parts = table["ID"].str.rpartition("_")
    image, kind = parts[0].str.strip(), parts[2].str.strip()
    value = table["Label"].str.strip().replace({"0.0": "0", "1.0": "1"})
    if not (known := kind.isin(LABELS) & (image != "")).all():
        got = repr(table["ID"][~known].iloc[0])
        raise InputError(f"{path.name} column ID", got, f"<image>_<{'|'.join(LABELS)}>", "Mend the csv.")
    if not (valid := value.isin(["0", "1"])).all():
        got = f"{value[~valid].iloc[0]!r} for {table['ID'][~valid].iloc[0]}"
        raise InputError(f"{path.name} column Label", got, "0 or 1", "Mend the csv.")
    rows = pd.DataFrame({"image": image, "kind": kind, "value": value.astype("int8")})
    unique = rows.drop_duplicates()
    twice = len(rows) - len(unique)
    if (contrary := unique.duplicated(["image", "kind"])).any():
        names = sorted(set(unique["image"][contrary]))
        raise InputError(f"{path.name}", f"0 and 1 for the same label of {some(names)}", "one value", "Mend the csv.")
    wide = unique.pivot(index="image", columns="kind", values="value").reindex(columns=list(LABELS))
    subtypes = wide[list(LABELS[1:])].max(axis=1)
    if (contrary := (wide["any"] == 0) & (subtypes == 1)).any():
        got = f"any = 0 with a subtype = 1 for {some(sorted(wide.index[contrary]))}"
        raise InputError(f"{path.name}", got, "any = 1 where a subtype is 1", "Mend the csv.")
    wide[wide.isna().any(axis=1)] = -1
    return wide.astype("int8"), twice


def _read_headers(raw: Path, files: list[str]) -> list[dict[str, str]]:
    return [_read_header(raw, file) for file in files]


def _read_header(raw: Path, file: str) -> dict[str, str]:
    try:
        with quiet_readers():
            header = pydicom.dcmread(raw / file, stop_before_pixels=True, specific_tags=list(IDENTITY))
            identity = {tag: str(header.get(tag) or "").strip() for tag in IDENTITY}
    except UNREADABLE as error:
        return {"file": file, "reason": _why(error)}
    if missing := [tag for tag in IDENTITY if not identity[tag]]:
        return {"file": file, "reason": f"no {' and no '.join(missing)}"}
    return {"file": file, **identity}


def _why(error: BaseException) -> str:
    """A reason in one line, without paths and without values that might name someone."""
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    text = " ".join(str(error).split())
    if "pixel data" in text.lower() and ("length" in text.lower() or "bytes" in text.lower()):
        return "short pixel data"
    return f"broken DICOM file ({type(error).__name__})"


def read_study(raw: Path, study: Study) -> Volume:
    """Reads the images of one series.

    Raises:
        UnusableError: If no image is left, or they do not make an axial stack.
    """
    remarks = Remarks()
    slices: list[tuple[int, dict[str, Any]]] = []
    for index, file in enumerate(study.files):
        try:
            slices.append((index, _read_slice(raw / file, remarks)))
        except UnusableError as error:
            remarks.skipped.append((file, str(error)))
    for what in ("hu.shape", "orientation", "spacing"):
        slices = _majority(slices, what, study, remarks)
    if not slices:
        raise UnusableError("no image of the series can be used", remarks)
    order = [index for index, _ in slices]
    labels = study.labels[order]
    remarks.unlabelled = [
        study.files[index] for index, row in zip(order, labels, strict=True) if row[0] < 0
    ]  # fmt: skip
    first = slices[0][1]
    orientation, spacing = np.array(first["orientation"]), np.array(first["spacing"])
    try:
        return canonical(
            np.stack([image["hu"] for _, image in slices]),
            None,
            labels,
            origins_mm=np.array([image["origin"] for _, image in slices]),
            col_step_mm=orientation[:3] * spacing[1],
            row_step_mm=orientation[3:] * spacing[0],
            slice_mm=first["slice_mm"],
            remarks=remarks,
        )
    except UnusableError as error:
        raise UnusableError(str(error), remarks) from None


def _majority(
    slices: list[tuple[int, dict[str, Any]]], what: str, study: Study, remarks: Remarks
) -> list[tuple[int, dict[str, Any]]]:
    """Leaves out the images that differ from most of their series in shape, orientation or spacing."""

    def value(image: dict[str, Any]) -> tuple[float, ...]:
        raw = image["hu"].shape if what == "hu.shape" else image[what]
        return tuple(round(float(v), 2) + 0.0 for v in raw)

    if not slices:
        return slices
    counts = Counter(value(image) for _, image in slices)
    usual = max(counts, key=lambda key: counts[key])
    for index, image in slices:
        if value(image) != usual:
            name = {"hu.shape": "size"}.get(what, what)
            remarks.skipped.append((study.files[index], f"another {name} than the rest of its series"))
    return [(index, image) for index, image in slices if value(image) == usual]


def _read_slice(path: Path, remarks: Remarks) -> dict[str, Any]:
    """HU and geometry of one file.

    Raises:
        UnusableError: With the reason.
    """
    try:
        with quiet_readers():
            image = pydicom.dcmread(path)
            geometry = {
                "origin": _numbers(image, "ImagePositionPatient", 3),
                "orientation": _numbers(image, "ImageOrientationPatient", 6),
                "spacing": _numbers(image, "PixelSpacing", 2),
                "slice_mm": _slice_mm(image),
            }
            pixels = image.pixel_array
    except UNREADABLE as error:
        raise UnusableError(_why(error)) from None
    if pixels.ndim != 2:
        raise UnusableError(f"{'colour or several frames' if pixels.ndim > 2 else 'no image'}")
    return {"hu": np.maximum(_to_hu(image, pixels, remarks), AIR_HU), **geometry}


def _numbers(image: pydicom.Dataset, tag: str, count: int) -> list[float]:
    values = image.get(tag)
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise UnusableError(f"no {tag}") from None
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UnusableError(f"no usable {tag}")
    return numbers


def _slice_mm(image: pydicom.Dataset) -> float:
    """Distance between slices, or their thickness, or 0: the public set gives neither."""
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = abs(float(image.get(tag)))
        except (TypeError, ValueError):
            continue
        if 0 < value < 50:
            return value
    return 0.0


def _to_hu(image: pydicom.Dataset, pixels: npt.NDArray[Any], remarks: Remarks) -> Floats:
    """Stored values → HU, with the intercept mended where it is known to be wrong."""
    slope, intercept = (
        _scale(image, tag, default) for tag, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if image.BitsStored == 12 and image.PixelRepresentation == 0 and intercept > -100:
        pixels = pixels.astype(np.int32) + 1000
        pixels = np.where(pixels >= 4096, pixels - 4096, pixels)
        intercept = -1000.0
        remarks.mended["intercept"] = remarks.mended.get("intercept", 0) + 1
    return pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _scale(image: pydicom.Dataset, tag: str, default: float) -> float:
    value = image.get(tag)
    if value is None or value == "":
        return default
    try:
        number = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
    except (TypeError, ValueError, IndexError):
        raise UnusableError(f"no usable {tag}") from None
    if not np.isfinite(number) or (tag == "RescaleSlope" and number == 0):
        raise UnusableError(f"no usable {tag}")
    return number

"""DICOM files: grouped into series by their headers, read as HU, sorted by position.

Every DICOM reader uses these functions: it lists the files and the labels of their slices. pydicom's plugins decode
compressed files; GDCM knows JPEG, JPEG lossless, JPEG-LS and JPEG 2000.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from data_prep.identity import identify
from data_prep.parallel import Workers, run_all
from data_prep.privacy import PublicId
from data_prep.raw_folder import quiet_readers, read_failure
from data_prep.volume import (
    AIR_HU,
    UNKNOWN_VENDOR,
    Floats,
    Remarks,
    Study,
    UnusableError,
    Volume,
    canonical,
    renumbered,
)

IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
KIND = ("Modality", "SOPClassUID", "ImageType", "NumberOfFrames")
HEADERS_PER_TASK = 500
VENDORS = {  # part of the header's Manufacturer → name in the report; no other text of a header gets there
    "ge ": "GE", "general electric": "GE", "siemens": "Siemens", "philips": "Philips", "toshiba": "Toshiba / Canon",
    "canon": "Toshiba / Canon", "hitachi": "Hitachi", "neusoft": "Neusoft", "neurologica": "NeuroLogica",
    "samsung": "NeuroLogica", "united imaging": "United Imaging", "picker": "Picker", "shimadzu": "Shimadzu",
}  # fmt: skip
MAX_PIXELS = 4096**2  # per image; a broken header that claims more would exhaust the memory
UNREADABLE = (  # exceptions of pydicom for broken files
    InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError,
    RuntimeError, ArithmeticError, IndexError,
)  # fmt: skip


class Series(NamedTuple):
    """One DICOM series: images of one acquisition.

    Attributes:
        patient: Public id.
        study: Public id of the study, with that of the series if the study has several.
        files: Relative to the raw folder, sorted.
        tags: The requested header values of each file, as text.
        patient_known: False if its patient may be that of other studies, or its id that of other patients.
    """

    patient: str
    study: str
    files: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    patient_known: bool


def find_series(
    raw: str | Path,
    files: list[str],
    workers: Workers,
    public_id: PublicId,
    *,
    tags: tuple[str, ...] = (),
    patients: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[Series], list[tuple[str, str]]]:
    """Reads all headers and groups the images into series; each series of a study becomes a study.

    Args:
        raw: The raw folder.
        files: Relative to the raw folder.
        workers: Processes, or the address of a Dask scheduler.
        public_id: Function from an id to its public id, see `public_ids`.
        tags: Keywords of further header fields to read; their values must stay inside the reader.
        patients: File → patient in a table, which goes before PatientID, see `identify`.

    Returns:
        The series, sorted by patient and study; and (file, reason) of unusable images.
    """
    raw = Path(raw)
    chunks = [files[start : start + HEADERS_PER_TASK] for start in range(0, len(files), HEADERS_PER_TASK)]
    headers = [
        header
        for found in run_all(_read_headers, [(raw, c, tags) for c in chunks], workers, "headers")
        for header in found
    ]
    skipped = [(header["file"], header["reason"]) for header in headers if "reason" in header]
    usable, unknown, contradictory = identify((header for header in headers if "reason" not in header), patients)
    skipped += contradictory
    series_per_study = Counter(study for _, study, _ in {tuple(header[tag] for tag in IDENTITY) for header in usable})
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for header in usable:
        patient, study, series = (header[tag] for tag in IDENTITY)
        name = public_id(study)
        if series_per_study[study] > 1:
            name += "." + public_id(series)
        groups.setdefault((public_id(patient), name), []).append(header)
    listed = [
        Series(
            patient, study, tuple(header["file"] for header in members),
            tuple(tuple(header[tag] for tag in tags) for header in members),
            members[0]["StudyInstanceUID"] not in unknown,
        )
        for (patient, study), members in sorted(groups.items())
    ]  # fmt: skip
    return listed, skipped


def _read_headers(raw: Path, files: list[str], tags: tuple[str, ...]) -> list[dict[str, str]]:
    return [_read_header(raw, file, tags) for file in files]


def _read_header(raw: Path, file: str, tags: tuple[str, ...]) -> dict[str, str]:
    try:
        with quiet_readers():
            header = pydicom.dcmread(raw / file, stop_before_pixels=True, specific_tags=[*IDENTITY, *KIND, *tags])
            identity = {tag: str(header.get(tag) or "").strip() for tag in (*IDENTITY, *tags)}
            other = _not_a_slice(header)
    except UNREADABLE as error:
        return {"file": file, "reason": _reason(error)}
    if other is not None:
        return {"file": file, "reason": other}
    return {"file": file, **identity}


def _not_a_slice(header: pydicom.Dataset) -> str | None:
    """Reason why an image is not a CT slice; None if it is one."""
    if (header.get("Modality") or "CT") != "CT":
        return "not a CT"
    if "Secondary Capture" in UID(str(header.get("SOPClassUID") or "")).name:
        return "a secondary capture"
    if "LOCALIZER" in [str(word).upper() for word in header.get("ImageType") or ()]:
        return "a localiser"
    return "several frames" if int(header.get("NumberOfFrames") or 1) > 1 else None


def _reason(error: BaseException) -> str:
    """One-line reason for an unreadable file, without paths and without values that may identify a person."""
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    if reason := read_failure(error):
        return reason
    text = " ".join(str(error).split())
    if isinstance(error, NotImplementedError) or "missing dependencies" in text:
        return "compressed in a way that can't be read here"
    if "pixel data" in text.lower() and ("length" in text.lower() or "bytes" in text.lower()):
        return "short pixel data"
    return f"broken DICOM file ({type(error).__name__})"


def read_series(raw: str | Path, study: Study) -> Volume:
    """Reads the images of one series.

    Args:
        raw: The raw folder.
        study: Files of the series and their labels.

    Raises:
        UnusableError: If no image is usable, or the images are no axial stack.
    """
    raw = Path(raw)
    remarks = Remarks()
    slices: list[tuple[int, dict[str, Any]]] = []
    for index, file in enumerate(study.files):
        try:
            slices.append((index, _read_slice(raw / file, remarks, fix_intercept=study.fix_intercept)))
        except UnusableError as error:
            remarks.skipped.append((file, str(error)))
    for name in ("hu.shape", "orientation", "spacing"):
        slices = _keep_majority(slices, name, study, remarks)
    if not slices:
        raise UnusableError("no image of the series can be used", remarks)
    order = [index for index, _ in slices]
    labels = study.labels[order]
    remarks.unlabelled = [
        study.files[index] for index, row in zip(order, labels, strict=True) if row[0] < 0
    ]  # fmt: skip
    first = slices[0][1]
    remarks.vendor = first["vendor"]
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
            boxes=renumbered(study.boxes, {old: new for new, old in enumerate(order)}),
        )
    except UnusableError as error:
        raise UnusableError(str(error), remarks) from None


def _keep_majority(
    slices: list[tuple[int, dict[str, Any]]], name: str, study: Study, remarks: Remarks
) -> list[tuple[int, dict[str, Any]]]:
    """Skips the images that differ from most of their series in shape, orientation or spacing."""

    def value(image: dict[str, Any]) -> tuple[float, ...]:
        values = image["hu"].shape if name == "hu.shape" else image[name]
        return tuple(round(float(v), 2) + 0.0 for v in values)

    if not slices:
        return slices
    counts = Counter(value(image) for _, image in slices)
    usual = max(counts, key=lambda key: counts[key])
    for index, image in slices:
        if value(image) != usual:
            shown = {"hu.shape": "size"}.get(name, name)
            remarks.skipped.append((study.files[index], f"another {shown} than the rest of its series"))
    return [(index, image) for index, image in slices if value(image) == usual]


def _read_slice(path: Path, remarks: Remarks, *, fix_intercept: bool) -> dict[str, Any]:
    """HU [row, col] and geometry of one file.

    Raises:
        UnusableError: If the file cannot be read, or is not a single image.
    """
    try:
        with quiet_readers():
            image = pydicom.dcmread(path)
            geometry = {
                "origin": _numbers(image, "ImagePositionPatient", 3),
                "orientation": _numbers(image, "ImageOrientationPatient", 6),
                "spacing": _numbers(image, "PixelSpacing", 2),
                "slice_mm": _slice_mm(image),
                "vendor": _vendor(image),
            }
            if int(image.get("Rows") or 0) * int(image.get("Columns") or 0) > MAX_PIXELS:
                raise UnusableError(f"more than {MAX_PIXELS} pixels")
            pixels = image.pixel_array
    except UNREADABLE as error:
        raise UnusableError(_reason(error)) from None
    if pixels.ndim != 2:
        raise UnusableError(f"{'colour or several frames' if pixels.ndim > 2 else 'no image'}")
    return {"hu": np.maximum(_to_hu(image, pixels, remarks, fix_intercept=fix_intercept), AIR_HU), **geometry}


def _vendor(image: pydicom.Dataset) -> str:
    """Vendor: one of `VENDORS`, "other", or `UNKNOWN_VENDOR`; free text stays in the file."""
    text = f"{image.get('Manufacturer') or ''} ".lower()
    return next((name for word, name in VENDORS.items() if word in text), "other") if text.strip() else UNKNOWN_VENDOR


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
    """Distance between slices, else their thickness, else 0; RSNA 2019 gives neither."""
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = abs(float(image.get(tag)))
        except (TypeError, ValueError):
            continue
        if 0 < value < 50:
            return value
    return 0.0


def _to_hu(image: pydicom.Dataset, pixels: npt.NDArray[Any], remarks: Remarks, *, fix_intercept: bool) -> Floats:
    """Stored values → HU.

    Source: the intercept fix is the one known from the competition (BitsStored 12, unsigned, RescaleIntercept > -100).
    """
    slope, intercept = (
        _scale(image, tag, default) for tag, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if fix_intercept and image.BitsStored == 12 and image.PixelRepresentation == 0 and intercept > -100:
        pixels = pixels.astype(np.int32) + 1000
        pixels = np.where(pixels >= 4096, pixels - 4096, pixels)
        intercept = -1000.0
        remarks.fixes["intercept"] = remarks.fixes.get("intercept", 0) + 1
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

"""Images of DICOM files, one or many per file: their headers, geometry and HU.

An enhanced multi-frame file keeps what changes from image to image in functional groups; here each of its frames gets a
header as that of a single image, and everything else follows the same path.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from data_prep.file_kind import PREAMBLE, is_bare_dicom, unpacked
from data_prep.hounsfield import DENSE_HU, stored_padding
from data_prep.raw_folder import foreign_reader, read_failure
from data_prep.volume import AIR_HU, MAX_VOXELS, UNKNOWN_VENDOR, Floats, Remarks, UnusableError

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
VENDORS = {  # part of the header's Manufacturer → name in the report; no other text of a header gets there
    "ge ": "GE", "general electric": "GE", "siemens": "Siemens", "philips": "Philips", "toshiba": "Toshiba / Canon",
    "canon": "Toshiba / Canon", "hitachi": "Hitachi", "neusoft": "Neusoft", "neurologica": "NeuroLogica",
    "samsung": "NeuroLogica", "united imaging": "United Imaging", "picker": "Picker", "shimadzu": "Shimadzu",
}  # fmt: skip
MAX_PIXELS = 4096**2  # per image; a broken header that claims more would exhaust the memory


class Image(NamedTuple):
    """One image, single or a frame.

    Attributes:
        hu: [row, col], clipped below at `AIR_HU`.
        origin_mm: [3] position of the first pixel, in patient coordinates.
        orientation: [6] direction cosines along a row, then along a column.
        spacing_mm: Between rows, between columns.
        slice_mm: Distance between slices, else their thickness, else 0.
        vendor: Of the scanner.
    """

    hu: Floats
    origin_mm: Sequence[float]
    orientation: Sequence[float]
    spacing_mm: Sequence[float]
    slice_mm: float
    vendor: str


def read_dicom(path: str | Path, **options: Any) -> pydicom.Dataset:
    """Reads a DICOM file, compressed as a whole or not, with or without preamble; `options` are those of `dcmread`."""
    with unpacked(path) as file:
        bare = is_bare_dicom(file.read(PREAMBLE + 4))
        file.seek(0)
        data = pydicom.dcmread(file, force=bare, **options)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def frame_headers(data: pydicom.Dataset) -> list[pydicom.Dataset]:
    """Header of each image of a file: the data set itself, or one per frame with its functional groups flattened.

    Raises:
        UnusableError: If the file has several frames without headers of their own.
    """
    count = int(data.get("NumberOfFrames") or 1)
    groups = data.get(PER_FRAME) or []
    if not groups and count == 1:
        return [data]
    if len(groups) != count:
        raise UnusableError(f"several frames{f', {len(groups)} of {count} with a position' if groups else ''}")
    common = pydicom.Dataset()
    common.update({element.tag: element for element in data if element.VR != "SQ" and element.keyword != "PixelData"})
    headers = []
    for group in groups:
        header = pydicom.Dataset()
        header.update(common)
        for macros in (*(data.get(SHARED) or [])[:1], group):
            for element in macros:
                if element.VR == "SQ" and element.value:
                    header.update(element.value[0])
        headers.append(header)
    return headers


def reason_of(error: Exception) -> str:
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


def read_images(
    path: str | Path, frames: Sequence[int], remarks: Remarks, *, fix_intercept: bool
) -> list[Image | UnusableError]:
    """Reads some images of a file.

    Args:
        path: The file.
        frames: Numbers of its frames, counted from 0; [0] for a file of one image.
        remarks: Get the fixes.
        fix_intercept: See `Study.fix_intercept`.

    Returns:
        For each frame the image, or why it cannot be used.

    Raises:
        UnusableError: If the file cannot be read.
    """
    with foreign_reader(reason_of):
        data = read_dicom(path)
        headers = frame_headers(data)
        pixels = _pixels(data, len(headers))
    images: list[Image | UnusableError] = []
    for frame in frames:
        try:
            with foreign_reader(reason_of):
                images.append(_image(headers[frame], pixels[frame], remarks, fix_intercept=fix_intercept))
        except UnusableError as error:
            images.append(error)
    return images


def _pixels(data: pydicom.Dataset, count: int) -> npt.NDArray[Any]:
    """Stored values [frame, row, col] of a file of `count` images."""
    rows, cols = (int(data.get(tag) or 0) for tag in ("Rows", "Columns"))
    if rows * cols > MAX_PIXELS:
        raise UnusableError(f"more than {MAX_PIXELS} pixels")
    if rows * cols * count > MAX_VOXELS:
        raise UnusableError(f"more than {MAX_VOXELS} voxels")
    pixels = data.pixel_array
    if pixels.size != count * rows * cols or not pixels.size:
        raise UnusableError("colour or several frames" if pixels.ndim > 2 else "no image")
    return np.asarray(pixels).reshape(count, rows, cols)


def _image(header: pydicom.Dataset, pixels: npt.NDArray[Any], remarks: Remarks, *, fix_intercept: bool) -> Image:
    hu = _to_hu(header, pixels, remarks, fix_intercept=fix_intercept)
    if not np.isfinite(hu).all():
        raise UnusableError("no usable RescaleSlope and RescaleIntercept")
    return Image(
        np.maximum(hu, np.float32(AIR_HU)), numbers_of(header, "ImagePositionPatient", 3),
        numbers_of(header, "ImageOrientationPatient", 6), numbers_of(header, "PixelSpacing", 2), _slice_mm(header),
        _vendor(header),
    )  # fmt: skip


def numbers_of(header: pydicom.Dataset, tag: str, count: int) -> list[float]:
    """The numbers of a tag.

    Raises:
        UnusableError: If it is missing, or holds something else.
    """
    try:
        numbers = [float(value) for value in header.get(tag)]
    except (TypeError, ValueError):
        raise UnusableError(f"no {tag}") from None
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UnusableError(f"no usable {tag}")
    return numbers


def _vendor(header: pydicom.Dataset) -> str:
    """Vendor: one of `VENDORS`, "other", or `UNKNOWN_VENDOR`; free text stays in the file."""
    text = f"{header.get('Manufacturer') or ''} ".lower()
    return next((name for word, name in VENDORS.items() if word in text), "other") if text.strip() else UNKNOWN_VENDOR


def _slice_mm(header: pydicom.Dataset) -> float:
    """Distance between slices, else their thickness, else 0; RSNA 2019 gives neither."""
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = abs(float(header.get(tag)))
        except (TypeError, ValueError):
            continue
        if 0 < value < 50:
            return value
    return 0.0


def _to_hu(header: pydicom.Dataset, pixels: npt.NDArray[Any], remarks: Remarks, *, fix_intercept: bool) -> Floats:
    """Stored values → HU, `AIR_HU` where the scanner has no data.

    Source: the intercept fix is the one known from the competition (BitsStored 12, unsigned, RescaleIntercept > -100).
    """
    slope, intercept = (
        _scale(header, tag, default) for tag, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    stored = pixels
    if fix_intercept and header.BitsStored == 12 and header.PixelRepresentation == 0 and intercept > -100:
        pixels = pixels.astype(np.int32) + 1000
        pixels = np.where(pixels >= 4096, pixels - 4096, pixels)
        intercept = -1000.0
        remarks.fixes["intercept"] = remarks.fixes.get("intercept", 0) + 1
    hu = pixels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if (value := header.get("PixelPaddingValue")) is not None and np.issubdtype(stored.dtype, np.integer):
        limit = header.get("PixelPaddingRangeLimit")
        padding = stored_padding(stored, int(value), int(value if limit is None else limit), np.abs(hu) < DENSE_HU)
        if (hu[padding] > AIR_HU).any():
            remarks.fixes["padding"] = remarks.fixes.get("padding", 0) + 1
            hu[padding] = AIR_HU
    return hu


def _scale(header: pydicom.Dataset, tag: str, default: float) -> float:
    value = header.get(tag)
    if value is None or value == "":
        return default
    try:
        number = float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
    except (TypeError, ValueError, IndexError):
        raise UnusableError(f"no usable {tag}") from None
    if not np.isfinite(number) or (tag == "RescaleSlope" and number == 0):
        raise UnusableError(f"no usable {tag}")
    return number

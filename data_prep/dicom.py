"""DICOM files: grouped into series by their headers, read as HU, sorted by position.

Every DICOM reader uses these functions: it lists the files and the labels of their slices. pydicom's plugins decode
compressed files; GDCM knows JPEG, JPEG lossless, JPEG-LS and JPEG 2000.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.uid import UID

from data_prep.dicom_frames import (
    PER_FRAME,
    SHARED,
    Image,
    frame_headers,
    numbers_of,
    read_dicom,
    read_images,
    reason_of,
)
from data_prep.dicom_volumes import BETWEEN, TELLING, Header, volumes_of
from data_prep.hounsfield import padding_to_air
from data_prep.identity import identify
from data_prep.parallel import Workers, run_all
from data_prep.privacy import PublicId
from data_prep.raw_folder import count_and_first, foreign_reader
from data_prep.volume import Remarks, Study, UnusableError, Volume, canonical, plane_of, renumbered

IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
KIND = ("Modality", "SOPClassUID", "ImageType", "FrameType", "NumberOfFrames")
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", SHARED, PER_FRAME)
HEADERS_PER_TASK = 500
SAME = {"orientation": 0.01, "spacing": 0.01}  # tolerance of direction cosines, and of mm


class Series(NamedTuple):
    """One volume of a DICOM series: images of one acquisition and reconstruction.

    Attributes:
        patient: Public id.
        study: Public id of the study, with that of the series if the study has several, and the number of the volume if
            the series has several.
        files: Relative to the raw folder, sorted; a file of several frames once for each of them.
        frames: Number of each image in its file, counted from 0.
        tags: The requested header values of each image, as text.
        told_apart_by: Tags that differ between the volumes of the series.
        multiframe: True if its files hold several images each.
        patient_known: False if its patient may be that of other studies, or its id that of other patients.
    """

    patient: str
    study: str
    files: tuple[str, ...]
    frames: tuple[int, ...]
    tags: tuple[tuple[str, ...], ...]
    told_apart_by: tuple[str, ...]
    multiframe: bool
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
    """Reads all headers and groups the images into series and volumes; each volume of a study becomes a study.

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
    headers: list[Header] = []
    skipped: list[tuple[str, str]] = []
    for found, unusable in run_all(_read_headers, [(raw, c, tags) for c in chunks], workers, "headers"):
        headers += found
        skipped += unusable
    identified, unknown, contradictory = identify(headers, patients)
    skipped += contradictory
    groups: dict[tuple[str, str, str], list[Header]] = defaultdict(list)
    for header in identified:
        groups[header.patient, header.study, header.series].append(header)
    several = Counter(study for _, study, _ in groups)
    listed = []
    for (patient, study, series), images in groups.items():
        name = f"{public_id(study)}.{public_id(series)}" if several[study] > 1 else public_id(study)
        volumes, told = volumes_of(images)
        for number, volume in enumerate(volumes, start=1):
            files_, frames, values = zip(*((each.file, each.frame, each.tags) for each in volume), strict=True)
            own_name = f"{name}.{number}" if told else name
            multiframe = any(each.frames > 1 for each in volume)
            listed.append(
                Series(
                    public_id(patient), own_name, files_, frames, values, tuple(told), multiframe, study not in unknown
                )
            )  # fmt: skip
    return sorted(listed), skipped


def volumes_in_series(found: Sequence[Series]) -> dict[str, Any]:
    """Entries of the report: the volumes whose series has several, and the tags that told them apart."""
    split = [series for series in found if series.told_apart_by]
    tags = sorted({tag for series in split for tag in series.told_apart_by})
    return {"volumes_in_one_series": count_and_first([series.study for series in split]) | {"told_apart_by": tags}}


def _read_headers(raw: Path, files: list[str], tags: tuple[str, ...]) -> tuple[list[Header], list[tuple[str, str]]]:
    """Headers of the images, and (file, reason) of unusable ones."""
    headers: list[Header] = []
    skipped: list[tuple[str, str]] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # most images of a series say the same
    for file in files:
        try:
            with foreign_reader(reason_of):
                found = _read_header(raw, file, tags)
        except UnusableError as error:
            skipped.append((file, str(error)))
            continue
        headers += [each._replace(telling=known.setdefault(each.telling, each.telling)) for each in found]
    return headers, skipped


def _read_header(raw: Path, file: str, tags: tuple[str, ...]) -> list[Header]:
    """Header of each image of a file.

    Raises:
        UnusableError: If it is no CT slice.
    """
    wanted = [*IDENTITY, *KIND, *GEOMETRY, *TELLING, *tags]
    data = read_dicom(raw / file, stop_before_pixels=True, specific_tags=wanted)
    frames = frame_headers(data)
    found = []
    for number, header in enumerate(frames):
        if reason := _not_a_slice(header):
            raise UnusableError(reason)
        patient, study, series = (_text(header, tag) for tag in IDENTITY)
        telling, others = (tuple(_text(header, tag) for tag in which) for which in (TELLING, tags))
        plane, position_mm = _place(header)
        found.append(
            Header(file, number, len(frames), patient, study, series, plane, position_mm, telling, others)
        )  # fmt: skip
    return found


def _text(header: pydicom.Dataset, tag: str) -> str:
    value = header.get(tag, "")
    if isinstance(value, pydicom.multival.MultiValue):
        return BETWEEN.join(map(str, value))
    return "" if value is None else str(value).strip()


def _place(header: pydicom.Dataset) -> tuple[str, float]:
    """Plane of an image, and its position along the normal in mm; "" and NaN if the header lacks them."""
    try:
        along = np.array(numbers_of(header, "ImageOrientationPatient", 6)).reshape(2, 3)
        origin = numbers_of(header, "ImagePositionPatient", 3)
    except UnusableError:
        return "", float("nan")
    return plane_of(*along), float(np.cross(*along) @ origin)


def _not_a_slice(header: pydicom.Dataset) -> str | None:
    """Reason why an image is not a CT slice; None if it is one."""
    if (header.get("Modality") or "CT") != "CT":
        return "not a CT"
    if "Secondary Capture" in UID(str(header.get("SOPClassUID") or "")).name:
        return "a secondary capture"
    if "LOCALIZER" in f"{_text(header, 'ImageType')}{BETWEEN}{_text(header, 'FrameType')}".upper().split(BETWEEN):
        return "a localiser"
    return None


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
    slices: list[tuple[int, Image]] = []
    frames = study.frames or (0,) * len(study.files)
    indices_in: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(study.files):
        indices_in[file].append(index)
    for file, indices in indices_in.items():
        try:
            numbers = [frames[index] for index in indices]
            images = read_images(raw / file, numbers, remarks, fix_intercept=study.fix_intercept)
        except UnusableError as error:
            images = [error] * len(indices)
        slices += [(i, image) for i, image in zip(indices, images, strict=True) if isinstance(image, Image)]
        reasons = dict.fromkeys(str(image) for image in images if isinstance(image, UnusableError))
        remarks.skipped += [(file, reason) for reason in reasons]
    for name in ("size", "orientation", "spacing"):
        slices = _keep_usual(slices, name, study, remarks)
    if not slices:
        raise UnusableError("no image of the series can be used", remarks)
    order = [index for index, _ in slices]
    labels = study.labels[order]
    remarks.unlabelled = [study.files[index] for index, row in zip(order, labels, strict=True) if row[0] < 0]
    first = slices[0][1]
    remarks.vendor = first.vendor
    orientation = np.median([image.orientation for _, image in slices], axis=0)
    spacing_mm = np.median([image.spacing_mm for _, image in slices], axis=0)
    hu = np.stack([image.hu for _, image in slices])
    if padding_to_air(hu):
        remarks.fixes["padding"] = len(hu)
    try:
        volume = canonical(
            hu,
            None,
            labels,
            origins_mm=np.array([image.origin_mm for _, image in slices]),
            col_step_mm=orientation[:3] * spacing_mm[1],
            row_step_mm=orientation[3:] * spacing_mm[0],
            slice_mm=first.slice_mm,
            remarks=remarks,
            boxes=renumbered(study.boxes, {old: new for new, old in enumerate(order)}),
        )
    except UnusableError as error:
        raise UnusableError(str(error), remarks) from None
    return replace(volume, source_index=np.array(order)[volume.source_index])  # in the listed files, also the skipped


def _keep_usual(slices: list[tuple[int, Image]], name: str, study: Study, remarks: Remarks) -> list[tuple[int, Image]]:
    """Skips the images that differ from most of their series in size, orientation or spacing, by more than rounding."""
    if not slices:
        return slices
    if name == "size":
        values = np.array([image.hu.shape for _, image in slices], float)
    else:
        values = np.array([image.orientation if name == "orientation" else image.spacing_mm for _, image in slices])
    tolerance = SAME.get(name, 0.0)
    kinds, counts = np.unique(values, axis=0, return_counts=True)
    near = [counts[(np.abs(kinds - kind) <= tolerance).all(axis=1)].sum() for kind in kinds]
    usual = (np.abs(values - kinds[int(np.argmax(near))]) <= tolerance).all(axis=1)
    remarks.skipped += [
        (study.files[index], f"another {name} than the rest of its series")
        for (index, _), fits in zip(slices, usual, strict=True)
        if not fits
    ]
    return [each for each, fits in zip(slices, usual, strict=True) if fits]

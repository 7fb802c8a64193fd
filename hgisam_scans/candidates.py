"""The scans of a file or folder: series told apart by their headers.

Text of headers stays here: what is told of a series are its number and our own words.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep.dicom import Series, find_series
from data_prep.dicom_frames import read_dicom, reason_of
from data_prep.file_kind import PREAMBLE, is_dicom, is_nifti, unpacked, voxel_file
from data_prep.nifti import open_image, shape_of, slice_axes
from data_prep.parallel import Workers
from data_prep.raw_folder import contents, entries_below, first_names, foreign_reader
from data_prep.volume import PLANES, Study, UnusableError, plane_of
from hgisam.data.labels import LABELS
from hgisam.errors import InputError
from hgisam_scans.series_traits import TYPICAL_MM, WEIGHTS, traits_of

DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage, the class of a DICOMDIR
TAGS = (
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ConvolutionKernel",
    "ContrastBolusAgent", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "ImageType",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A series that can be segmented, as its headers describe it.

    Attributes:
        raw: Folder that the files of the study are relative to.
        study: Files and frames, for the readers of `data_prep`.
        key: Ids of study, series and volume; private: they may identify a person.
        group: Ids of the study alone; private.
        kind: "DICOM" or "NIfTI".
        uid: SeriesInstanceUID, or ""; private.
        number: SeriesNumber, or the place in the list where it has none.
        traits: What speaks against it, the worst first; empty for the series meant for this job.
        slices: Number of images.
        slice_mm: Distance of slices by the headers, 0 if unknown.
    """

    raw: Path
    study: Study
    key: str
    group: str
    kind: str
    uid: str
    number: int
    traits: tuple[str, ...]
    slices: int
    slice_mm: float

    @property
    def name(self) -> str:
        """The series in our own words: number, slices, spacing."""
        step = f" of {self.slice_mm:g} mm" if self.slice_mm else ""
        return f"series {self.number} ({self.slices} slices{step})"

    @property
    def rank(self) -> tuple[int, float, float, int, int]:
        """Sort key, the best first: weightiest trait, number of traits, spacing near to training, slices, number."""
        worst = max((WEIGHTS[trait] for trait in self.traits), default=0)
        return worst, len(self.traits), abs(self.slice_mm - TYPICAL_MM), -self.slices, self.number


@dataclass
class Found:
    """The candidates of a file or folder, and (file, reason) of all that was skipped."""

    candidates: list[Candidate]
    skipped: list[tuple[str, str]] = field(default_factory=list)


def find_scans(scan: str | Path, workers: Workers = 1) -> Found:
    """List the series of a NIfTI file, a DICOM file, a DICOMDIR or a folder; the content of a file tells its kind.

    Args:
        scan: The path. A DICOMDIR stands for the files that it lists.
        workers: Processes that read headers.

    Raises:
        InputError: If it does not exist, or holds no head CT.
    """
    scan = Path(scan)
    if scan.is_dir():
        raw, files = scan, [path for path in entries_below(scan) if path.is_file() and path.name.upper() != "DICOMDIR"]
    elif scan.is_file():
        listed = _listed_in(scan)
        raw, files = scan.parent, [scan] if listed is None else listed
    else:
        raise _nothing(scan, "no such file or folder")
    found, taken = Found([]), set[Path]()
    for path in filter(is_nifti, files):
        taken |= {path, *filter(None, [voxel_file(path)])}
        try:
            found.candidates.append(_of_nifti(raw, path, len(found.candidates) + 1))
        except UnusableError as error:
            found.skipped.append((_relative(raw, path), str(error)))
    names = [_relative(raw, path) for path in files if path not in taken]
    listed_series, skipped = find_series(raw, names, workers, str, tags=TAGS)
    found.skipped += skipped
    for series in listed_series:
        found.candidates += _of_dicom(raw, series, len(found.candidates) + 1)
    if not found.candidates:
        reasons = dict.fromkeys(reason for _, reason in found.skipped)
        raise _nothing(scan, f"no series that can be read ({first_names(list(reasons), 3)})" if reasons else "no file")
    return found


def _nothing(scan: Path, got: str) -> InputError:
    expected = f"a NIfTI file, a DICOM folder or a DICOMDIR of a head CT{_seen(scan)}"
    return InputError(f"scan {scan}", got, expected, "Give the path of the scan.")


def _seen(scan: Path) -> str:
    return f", not {contents(scan)}" if scan.is_dir() and not any(scan.iterdir()) else ""


def _relative(raw: Path, path: Path) -> str:
    return path.relative_to(raw).as_posix()


def _listed_in(path: Path) -> list[Path] | None:
    """Files that a DICOMDIR lists and that exist; None if the file is no DICOMDIR."""
    try:
        with foreign_reader(reason_of):
            with unpacked(path) as file:
                if not is_dicom(file.read(PREAMBLE + 4)):
                    return None
            data = read_dicom(path, stop_before_pixels=True, specific_tags=["DirectoryRecordSequence"])
            if str(data.file_meta.get("MediaStorageSOPClassUID", "")) != DIRECTORY:
                return None
            parts = [record.get("ReferencedFileID") for record in data.get("DirectoryRecordSequence") or ()]
    except UnusableError:
        return None  # the reader of series says what is wrong with it
    root = path.parent.resolve()
    files = [path.parent.joinpath(*([part] if isinstance(part, str) else map(str, part))) for part in parts if part]
    return [file for file in files if file.is_file() and file.resolve().is_relative_to(root)]


def _of_nifti(raw: Path, path: Path, number: int) -> Candidate:
    """The candidate of a NIfTI file."""
    with open_image(path) as image:
        shape, affine = shape_of(image), np.asarray(image.affine, float)
    axes = slice_axes(affine)
    steps = affine[:3, [*axes]]
    slices, slice_mm = shape[axes[0]], float(np.linalg.norm(steps[:, 0]))
    name = _relative(raw, path)
    # one label row per slice along the file's third axis, as its reader expects
    study = Study("", name, (name,), np.full((shape[2], len(LABELS)), -1, np.int8))
    axial = bool(np.isfinite(steps).all()) and plane_of(steps[:, 2], steps[:, 1]) == PLANES[2]
    traits = traits_of("", "", "", "", slices, slice_mm, axial=axial)
    return Candidate(raw, study, name, name, "NIfTI", "", number, traits, slices, round(slice_mm, 3))


def _of_dicom(raw: Path, series: Series, number: int) -> Iterator[Candidate]:
    """The candidate of a DICOM series; several, one per folder, where folders hold other scans under its ids."""
    for folder, part in _by_folder(series).items():
        first = dict(zip(TAGS, part.tags[0], strict=True))
        positions = [_numbers(row[TAGS.index("ImagePositionPatient")]) for row in part.tags]
        orientation = _numbers(first["ImageOrientationPatient"])
        axial, slice_mm = True, _float(first["SliceThickness"])
        if len(orientation) == 6:
            along, down = np.array(orientation).reshape(2, 3)
            axial = plane_of(along, down) == PLANES[2]
            if all(len(position) == 3 for position in positions) and len(positions) > 1:
                steps = np.diff(np.sort(np.array(positions) @ np.cross(along, down)))
                slice_mm = float(np.median(steps)) or slice_mm
        description, kernel = first["SeriesDescription"], first["ConvolutionKernel"]
        agent = first["ContrastBolusAgent"]
        traits = traits_of(
            description, kernel, agent, first["ImageType"], len(part.files), slice_mm, axial=axial
        )  # fmt: skip
        group = "\n".join((series.patient, first["StudyInstanceUID"] or str(Path(part.files[0]).parent), folder))
        own = first["SeriesNumber"]
        study = Study(
            series.patient, f"{series.study}{folder}", part.files, np.full((len(part.files), len(LABELS)), -1, np.int8),
            frames=part.frames, patient_known=series.patient_known,
        )  # fmt: skip
        yield Candidate(
            raw, study, f"{series.study}\n{folder}", group, "DICOM", first["SeriesInstanceUID"],
            int(own) if own.lstrip("-").isdecimal() else number, traits, len(part.files), round(slice_mm, 3),
        )  # fmt: skip


def _by_folder(series: Series) -> dict[str, Series]:
    """Folder → its part of a series, where two folders hold different scans under one UID; else one part under ""."""
    rows: dict[str, list[int]] = defaultdict(list)
    for index, file in enumerate(series.files):
        rows[str(Path(file).parent)].append(index)
    at = TAGS.index("ImagePositionPatient")
    places = [{series.tags[index][at] for index in indices} - {""} for indices in rows.values()]
    if sum(map(len, places)) == len(set().union(*places)):
        return {"": series}
    return {
        folder: series._replace(
            files=tuple(series.files[i] for i in indices),
            frames=tuple(series.frames[i] for i in indices),
            tags=tuple(series.tags[i] for i in indices),
        )
        for folder, indices in rows.items()
    }


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split("\\")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def _float(text: str) -> float:
    numbers = _numbers(text)
    return abs(numbers[0]) if numbers and abs(numbers[0]) < 100 else 0.0

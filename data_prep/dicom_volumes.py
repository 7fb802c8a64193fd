"""Images of one DICOM series told apart into volumes, by what their headers say of reconstruction and acquisition.

A series should be one volume. Some hold several: two kernels, a scan with and without contrast, the time points of a
perfusion scan. Their images have the same places, so that a stack of all of them would mix them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_prep.volume import SAME_POSITION_MM

Kinds = npt.NDArray[np.int64]
BETWEEN = "\\"  # the numbers of one value

# tags of a reconstruction or acquisition, in the order in which they are tried; frames have some under other names
TELLING = (
    "ImageType", "FrameType", "ConvolutionKernel", "SliceThickness", "PixelSpacing", "ContrastBolusAgent",
    "SeriesDescription", "ProtocolName", "KVP", "ReconstructionDiameter", "FilterType", "StackID",
    "TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "FrameAcquisitionNumber",
    "AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionTime",
)  # fmt: skip
PLANE = "plane"
BY_TURN = TELLING[TELLING.index("AcquisitionNumber") :]  # may grow from image to image within one volume
SAME_NUMBER = 0.05  # tolerance of a thickness in mm, a voltage in kV, a time in s
AMONG = 3  # so many images of one value within the range of another are no lost or misspelt value


class Header(NamedTuple):
    """What the header of an image says of it.

    Attributes:
        file: Relative to the raw folder.
        frame: Number of the frame in its file, counted from 0.
        frames: Number of frames in its file.
        patient, study, series: Ids.
        plane: Its plane, one of `PLANES`, or "" if unknown.
        position_mm: Along the normal of the image, NaN if unknown.
        telling: Values of `TELLING`, as text.
        tags: The requested header values, as text.
    """

    file: str
    frame: int
    frames: int
    patient: str
    study: str
    series: str
    plane: str
    position_mm: float
    telling: tuple[str, ...]
    tags: tuple[str, ...]


def volumes_of(images: Sequence[Header]) -> tuple[list[list[Header]], list[str]]:
    """Splits the images of a series into volumes.

    Images that differ in a tag stay together where they follow each other, such as thin slices at the skull base below
    thick ones. Where images at one place differ, each value of the tag has its own volume.

    Returns:
        The volumes, the largest first, and the tags that told them apart. What no tag tells apart stays together;
        `canonical` refuses it unless the images are copies.
    """
    placed = [image for image in images if np.isfinite(image.position_mm)]
    parts, told = [placed], list[str]()
    for tag, values in _differing(placed):
        kind_of = dict(zip(map(id, placed), _kinds(values), strict=True))
        split = [piece for part in parts for piece in _split(part, [kind_of[id(image)] for image in part], tag)]
        if len(split) > len(parts):
            parts, told = split, [*told, tag]
    largest, *others = sorted(parts, key=len, reverse=True)
    return [[*largest, *(image for image in images if not np.isfinite(image.position_mm))], *others], told


def _differing(images: Sequence[Header]) -> Iterator[tuple[str, list[str]]]:
    """The tags that differ, and their values; the plane is the first."""
    for index, tag in enumerate((PLANE, *TELLING)):
        values = [(image.plane, *image.telling)[index] for image in images]
        if len(set(values)) > 1:
            yield tag, values


def _kinds(values: Sequence[str]) -> Kinds:
    """Numbers the different values in ascending order; numbers that differ by rounding alone are one."""
    try:
        columns = np.array([[float(number) for number in value.split(BETWEEN)] for value in values])
    except ValueError:
        return np.unique(values, return_inverse=True)[1]
    for column in columns.T:
        order = np.argsort(column)
        column[order] = np.cumsum(np.diff(column[order], prepend=column[order[0]]) > SAME_NUMBER)
    return np.unique(columns, axis=0, return_inverse=True)[1].ravel()


def _split(part: list[Header], kinds: Sequence[int], tag: str) -> list[list[Header]]:
    """The images of each kind, if images of two kinds are mixed in space; else all of them."""
    kind, position_mm = np.array(kinds), np.array([image.position_mm for image in part])
    order = np.argsort(position_mm)
    place = np.empty(len(part), int)
    place[order] = np.cumsum(np.diff(position_mm[order], prepend=-np.inf) > SAME_POSITION_MM) - 1
    counts = np.unique(kind, return_counts=True)[1]
    if tag == PLANE:
        mixed = int(np.sum(counts >= AMONG)) > 1
    else:
        mixed = len(np.unique([place, kind], axis=1).T) > place.max() + 1 or (
            tag not in BY_TURN and _interleaved(kind[order])
        )
    if not mixed:
        return [part]
    if tag in BY_TURN and len(counts) > len(part) / AMONG:
        kind = _turns(kind, place)
    return [[part[index] for index in np.flatnonzero(kind == value)] for value in np.unique(kind)]


def _interleaved(kind: Kinds) -> bool:
    """True if several images of one kind lie among several of another, in the order of their positions."""
    for value in np.unique(kind):
        where = np.flatnonzero(kind == value)
        others = where[-1] - where[0] + 1 - len(where)
        if min(others, len(where)) >= AMONG:
            return True
    return False


def _turns(kind: Kinds, place: Kinds) -> Kinds:
    """Rank of each image among those at its place, where all places have the same number; else one kind for all.

    The scan is repeated, and the number or time of its images grows from image to image.
    """
    counts = np.bincount(place)
    turn = np.zeros(len(kind), int)
    if counts.min() == counts.max():
        turn[np.lexsort((kind, place)).reshape(len(counts), counts[0])] = np.arange(counts[0])
    return turn

"""A DICOM segmentation (SEG) on the original images: each frame of a segment refers to the image that it belongs to.

Frames without a bleed are written too: viewers shift masks where they are left out. Patient and study are copied from
the images, as the standard demands: a SEG carries the patient's name where the images do.

Codes are those of pydicom's dictionary (DICOM PS3.16); subdural space is from the terminology of SlicerMONAIAuto3DSeg.
There is no verified code for the epidural space: an epidural bleed is coded as intracranial and named by its label.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, generate_uid

import hgisam
from data_prep.dicom_frames import frame_headers, read_dicom, reason_of
from data_prep.raw_folder import foreign_reader
from data_prep.volume import UnusableError
from hgisam.errors import InputError
from hgisam.runs.folders import whole_file

INTRACRANIAL = "intracranial"
REGIONS: Mapping[str, Code] = {
    INTRACRANIAL: codes.SCT.Intracranial, "epidural": codes.SCT.Intracranial, "intraparenchymal": codes.SCT.Brain,
    "intraventricular": codes.SCT.BrainVentricle, "subarachnoid": codes.SCT.CranialSubarachnoidSpace,
    "subdural": Code("54214006", "SCT", "Subdural space"),
}  # fmt: skip
COLORS: Mapping[str, tuple[int, int, int]] = {  # RGB; Okabe and Ito, distinct for readers with any colour vision
    INTRACRANIAL: (213, 94, 0), "epidural": (230, 159, 0), "intraparenchymal": (204, 121, 167),
    "intraventricular": (0, 114, 178), "subarachnoid": (86, 180, 233), "subdural": (0, 158, 115),
}  # fmt: skip
EMPTY_IF_MISSING = (  # attributes that may be empty but must be there (type 2)
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "SeriesNumber", "Manufacturer",
)  # fmt: skip
IDENTITY = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
PRODUCER = "HGI-SAM book"


def source_headers(raw: str | Path, files: Sequence[str], slice_mm: float) -> list[pydicom.Dataset]:
    """Headers of the original images without their pixels, completed where a derived object needs more.

    Args:
        raw: Folder that the files are relative to.
        files: One per slice; one file for all of them if it is multi-frame.
        slice_mm: Distance of slices, for images without a thickness.

    Raises:
        InputError: If an image lacks what a derived object must refer to.
    """
    found, shared = [], generate_uid()
    for file in dict.fromkeys(files):
        try:
            with foreign_reader(reason_of):
                header = read_dicom(Path(raw, file), stop_before_pixels=True)
        except UnusableError as error:
            raise InputError("an image of the scan", str(error), "a readable image", "Restore it.") from None
        for name in EMPTY_IF_MISSING:
            if name not in header:
                setattr(header, name, None)
        for name in IDENTITY:
            if not UID(str(header.get(name) or "")).is_valid:
                expected = "images with valid UIDs, which a derived DICOM object refers to"
                raise InputError(f"{name} of an image", "missing or no UID", expected, "Leave out --seg and --sr.")
        if not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = shared
        if not header.get("SliceThickness"):
            header.SliceThickness = slice_mm
        found.append(header)
    return found


def write_seg(
    path: str | Path, headers: Sequence[pydicom.Dataset], frames: Sequence[int],
    segments: Mapping[str, npt.NDArray[np.uint8]], *, algorithm: str, version: str,
) -> Segmentation:  # fmt: skip
    """Write a binary segmentation of some images.

    Args:
        path: The new file.
        headers: From `source_headers`, one per slice; or the one of a multi-frame file.
        frames: Number in its file of each slice, counted from 0.
        segments: Subtype or "intracranial" → mask [slice, row, col] on the original pixels, in the order of the slices.
        algorithm: Name of the network and method.
        version: Of its weights.

    Raises:
        InputError: If the images do not form what a SEG may refer to.
    """
    masks = np.stack(list(segments.values()), axis=-1).astype(np.uint8)  # [slice, row, col, segment]
    if len(headers) == 1 and len(frame_headers(headers[0])) > 1:
        every = np.zeros((len(frame_headers(headers[0])), *masks.shape[1:]), np.uint8)
        every[list(frames)] = masks
        masks = every
    identification = AlgorithmIdentificationSequence(
        name=algorithm, version=version[:16], family=codes.DCM.ArtificialIntelligence, source=PRODUCER,
    )  # fmt: skip
    described = [
        SegmentDescription(
            segment_number=number, segment_label=f"{name} hemorrhage",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Hemorrhage, algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification, anatomic_regions=[REGIONS[name]], tracking_uid=generate_uid(),
            tracking_id=f"hgisam {name} hemorrhage", display_color=CIELabColor.from_rgb(*COLORS[name]),
        )
        for number, name in enumerate(segments, start=1)
    ]  # fmt: skip
    with one_line("SEG"):
        segmentation = Segmentation(
            source_images=list(headers), pixel_array=masks, segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=described, series_instance_uid=generate_uid(), series_number=9001,
            sop_instance_uid=generate_uid(), instance_number=1, omit_empty_frames=False,
            series_description="HGI-SAM, research only", content_label="HEMORRHAGE",
            content_description="Research only, never for diagnosis", manufacturer=PRODUCER,
            manufacturer_model_name="hgisam", device_serial_number="0", software_versions=hgisam.__version__,
        )  # fmt: skip
    save(segmentation, path)
    return segmentation


def save(dataset: pydicom.Dataset, path: str | Path) -> None:
    """Write a DICOM object, whole or not at all."""
    with whole_file(Path(path)) as scratch:
        dataset.save_as(scratch)


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn what highdicom says of images that do not fit into an InputError; silence its remarks, which hold names."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"DICOM {what}", said, "images it may refer to", f"Leave out --{what.lower()}.") from None
    finally:
        logger.setLevel(level)

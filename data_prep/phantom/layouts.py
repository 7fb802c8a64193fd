"""Files of one phantom patient in the layout of RSNA 2019, PhysioNet CT-ICH, or CQ500 with the boxes of BHX.

Source: the pages of the data sets; tags, value ranges and the intercept defect as found in the RSNA files.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
from pydicom import config as dicom_config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from scipy import ndimage

from data_prep.phantom.acquisition import VISIBLE_MM2
from data_prep.phantom.patient import PhantomPatient
from hgisam.data.labels import LABELS, MASK_VALUES, SUBTYPES

Tables = dict[str, pd.DataFrame]  # name of a CSV file → rows of a patient

PADDING_HU = -2000
MAX_SLICES = 1 << 9  # per patient, for the image ids
CT_ICH_COLUMNS = ("Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural")
RSNA_SUFFIXES = (*SUBTYPES, "any")
READING_CODES = dict(zip(("ICH", "EDH", "IPH", "IVH", "SAH", "SDH"), LABELS, strict=True))


def ct_ich_number(index: int) -> int:
    """Patient number in CT-ICH: 49 to 58, then 66 and up."""
    return index + 49 if index < 10 else index + 56


def write_ct_ich(patient: PhantomPatient, seed: int, index: int, folder: Path) -> Tables:
    """Writes ct_scans/NNN.nii and masks/NNN.nii under `folder`; returns the patient's rows of the CSV file."""
    del seed  # only ids depend on it, and here they are numbers
    number = ct_ich_number(index)
    affine = _affine(patient)
    for name, volume in (("ct_scans", patient.hu), ("masks", (patient.mask > 0).astype(np.uint8) * 255)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        stored = np.ascontiguousarray(volume[:, ::-1].transpose(2, 1, 0))
        image: Any = nib.Nifti1Image(stored, affine)  # type: ignore[no-untyped-call]
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / name / f"{number:03d}.nii")
    labels = dict(zip(LABELS, patient.labels.T.astype(int), strict=True))
    rows = {"PatientNumber": number, "SliceNumber": np.arange(1, len(patient.hu) + 1)}
    rows |= {column: labels[column.lower()] for column in CT_ICH_COLUMNS}
    table = pd.DataFrame(rows | {"No_Hemorrhage": 1 - labels["any"], "Fracture_Yes_No": 0})
    return {"hemorrhage_diagnosis_raw_ct.csv": table}


def _affine(patient: PhantomPatient) -> npt.NDArray[np.float64]:
    """Affine [4, 4] from array indices (col, row from posterior, slice) to RAS mm, sheared by the gantry tilt."""
    step, row_mm, col_mm = patient.spacing_mm
    _, rows, cols = patient.hu.shape
    tilt = np.deg2rad(patient.tilt_deg)
    affine = np.diag([-col_mm, row_mm * np.cos(tilt), step, 1])
    affine[2, 1] = row_mm * np.sin(tilt)
    affine[:3, 3] = (cols - 1) / 2 * col_mm, *(-(rows - 1) / 2 * affine[1:3, 1])
    return affine


def image_ids(seed: int, index: int, count: int) -> list[str]:
    """Image ids of a patient, nine hexadecimal digits each: unique within a cohort, in pseudorandom order."""
    start = int(hashlib.sha256(f"phantom image {seed}".encode()).hexdigest()[:9], 16)
    return [f"ID_{((index * MAX_SLICES + k) * 0x9E3779B97 + start) % 16**9:09x}" for k in range(count)]


def write_rsna(patient: PhantomPatient, seed: int, index: int, folder: Path) -> Tables:
    """Writes stage_2_train/ID_*.dcm under `folder`; returns the patient's rows (ID, Label) of the CSV file."""
    images = folder / "stage_2_train"
    images.mkdir(parents=True, exist_ok=True)
    ids = image_ids(seed, index, len(patient.hu))
    study = _study(patient, seed, index)
    stored = stored_pixels(patient)
    for k, name in enumerate(ids):
        # not enforced: pydicom would copy the image's ID, which is no UID, into the file's header
        image = _slice_dataset(patient, study, stored[k], k, name)
        image.save_as(images / f"{name}.dcm", enforce_file_format=False)
    columns = [LABELS.index(suffix) for suffix in RSNA_SUFFIXES]
    names = [f"{name}_{suffix}" for name in ids for suffix in RSNA_SUFFIXES]
    table = pd.DataFrame({"ID": names, "Label": patient.labels[:, columns].astype(int).ravel()})
    return {"stage_2_train.csv": table}


def write_cq500(patient: PhantomPatient, seed: int, index: int, folder: Path) -> Tables:
    """Writes the DICOM folder of a scan; returns the patient's rows of the readings and of the boxes.

    Each component of a bleed with a visible area in its slice gets a box.
    """
    name = f"CQ500CT{index}"
    images = folder / f"{name} {name}" / "Unknown Study" / "CT Plain"
    images.mkdir(parents=True, exist_ok=True)
    uids = [f"2.25.{int(image[3:], 16)}" for image in image_ids(seed, index, len(patient.hu))]
    study = _study(patient, seed, index)
    study.PatientID, study.SeriesDescription, study.SliceThickness = f"CQ500-CT-{index}", "Plain", patient.spacing_mm[0]
    for tag in ("StudyInstanceUID", "SeriesInstanceUID"):
        study[tag].value = f"2.25.{int(study[tag].value[3:], 16)}"
    for k, (uid, pixels) in enumerate(zip(uids, stored_pixels(patient), strict=True)):
        image = _slice_dataset(patient, study, pixels, k, uid)
        image.save_as(images / f"CT{k:06d}.dcm", enforce_file_format=False)
    bleeds = patient.labels.any(axis=0).astype(int)
    label_of = dict(zip(LABELS, bleeds, strict=True))
    reading = {"name": f"CQ500-CT-{index}", "Category": "B1"}
    for reader in ("R1", "R2", "R3"):
        reading |= {f"{reader}:{code}": label_of[label] for code, label in READING_CODES.items()}
    boxes = [
        {"SOPInstanceUID": uids[k], "data": str(box), "labelName": kind.capitalize(), "labelType": "phantom"}
        for k, kind, box in _boxes(patient)
    ]
    columns = ["SOPInstanceUID", "data", "labelName", "labelType"]
    return {
        "reads.csv": pd.DataFrame([reading]),
        "3_Extrapolation_to_Selected_Series.csv": pd.DataFrame(boxes, columns=columns),
    }


def _boxes(patient: PhantomPatient) -> Iterator[tuple[int, str, dict[str, float]]]:
    """(slice, subtype, box) of each 8-connected component of a bleed in a slice."""
    pixel_mm2 = patient.spacing_mm[1] * patient.spacing_mm[2]
    for k, slice_labels in enumerate(patient.labels):
        for kind, positive in zip(LABELS[1:], slice_labels[1:], strict=True):
            parts, count = ndimage.label(patient.mask[k] == MASK_VALUES[kind], np.ones((3, 3)))
            areas = np.bincount(parts.ravel(), minlength=count + 1)[1:] * pixel_mm2
            for area, (rows, cols) in zip(areas, ndimage.find_objects(parts), strict=True):
                if positive and (area >= VISIBLE_MM2 or area == areas.max()):
                    edges = {"x": cols.start, "y": rows.start, "width": cols.stop - cols.start}
                    yield k, kind, edges | {"height": rows.stop - rows.start}


def stored_pixels(patient: PhantomPatient) -> npt.NDArray[np.uint16] | npt.NDArray[np.int16]:
    """Stored pixel values of the DICOM files, [slice, row, col]."""
    scanner = patient.scanner
    hu = patient.hu.astype(np.int32)
    if scanner.round_field and scanner.signed:
        rows, cols = (np.arange(n) - (n - 1) / 2 for n in hu.shape[1:])
        hu[:, np.hypot(rows[:, None] / len(rows), cols[None] / len(cols)) > 0.5] = PADDING_HU
    if scanner.signed:
        return (hu - scanner.intercept).astype(np.int16)
    if scanner.intercept > -100:  # the defect: 1000 too low and wrapped at 12 bits
        return (np.clip(hu, -1000, 3070) % 4096).astype(np.uint16)
    return np.clip(hu - scanner.intercept, 0, 4095).astype(np.uint16)


def _study(patient: PhantomPatient, seed: int, index: int) -> Dataset:
    """Header shared by all slices of a study; ids look like those of RSNA, which are no valid UIDs."""
    digest = hashlib.sha256(f"phantom patient {seed} {index}".encode()).hexdigest()
    scanner = patient.scanner
    study = Dataset()
    for tag, vr, value in (
        ("Modality", "CS", "CT"),
        ("PatientID", "LO", f"ID_{digest[:8]}"),
        ("StudyInstanceUID", "UI", f"ID_{digest[8:18]}"),
        ("SeriesInstanceUID", "UI", f"ID_{digest[18:28]}"),
        ("StudyID", "SH", ""),
    ):
        study.add(DataElement(tag, vr, value, validation_mode=dicom_config.IGNORE))
    tilt = np.deg2rad(patient.tilt_deg)
    study.ImageOrientationPatient = [1, 0, 0, 0, round(float(np.cos(tilt)), 6), round(-float(np.sin(tilt)), 6)]
    study.SamplesPerPixel, study.PhotometricInterpretation = 1, "MONOCHROME2"
    study.Rows, study.Columns = patient.hu.shape[1:]
    study.PixelSpacing = [round(float(mm), 6) for mm in patient.spacing_mm[1:]]
    study.BitsAllocated, study.BitsStored, study.HighBit = 16, scanner.bits_stored, scanner.bits_stored - 1
    study.PixelRepresentation = int(scanner.signed)
    if scanner.round_field and scanner.signed:
        study.add_new("PixelPaddingValue", "SS", PADDING_HU - scanner.intercept)
    several_windows = int(digest[28], 16) < 5
    study.WindowCenter, study.WindowWidth = ([40, 600], [80, 3000]) if several_windows else (35, 100)
    study.RescaleIntercept, study.RescaleSlope = scanner.intercept, 1
    return study


def _slice_dataset(
    patient: PhantomPatient, study: Dataset, pixels: npt.NDArray[np.generic], k: int, name: str
) -> Dataset:
    """DICOM data set of slice `k` with the SOPInstanceUID `name`."""
    step, row_mm, col_mm = patient.spacing_mm
    rows, cols = pixels.shape
    tilt = np.deg2rad(patient.tilt_deg)
    half = (rows - 1) / 2 * row_mm
    position = (-(cols - 1) / 2 * col_mm, -half * np.cos(tilt), k * step + half * np.sin(tilt))
    image = Dataset()
    image.add(DataElement("SOPInstanceUID", "UI", name, validation_mode=dicom_config.IGNORE))
    image.update(study)
    image.SOPClassUID = CTImageStorage
    image.ImagePositionPatient = [round(float(mm), 6) for mm in position]
    image.add_new("PixelData", "OW", pixels.tobytes())
    image.preamble = bytes(128)
    image.file_meta = FileMetaDataset()
    image.file_meta.FileMetaInformationGroupLength = 0  # set on writing
    image.file_meta.FileMetaInformationVersion = b"\x00\x01"
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    uid = name if name.startswith("2.25.") else f"2.25.{int(name[3:], 16)}"
    image.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = UID("2.25.1")
    return image

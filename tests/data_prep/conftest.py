"""Small raw data sets in the exact layouts, with an asymmetric head."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from hgisam.data.labels import LABELS

PX, PX_MM, SLICES, SLICE_MM = 64, 4.0, 8, 15.0
Hu = npt.NDArray[np.int16]


def make_head() -> tuple[Hu, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(HU, brain, lesion) in the canonical orientation; the lesion is low, anterior, and on the patient's right."""
    z, y, x = np.indices((SLICES, PX, PX)).astype(float)
    z, y, x = (z - 3) * SLICE_MM, (y - 31) * PX_MM, (x - 31) * PX_MM
    norm = np.sqrt((z / 75) ** 2 + (y / 88) ** 2 + (x / 70) ** 2)
    hu = np.full(norm.shape, -1000)
    hu[norm < 1.12] = 20
    hu[norm < 1.05] = 900
    brain = norm < 0.93
    hu[brain] = 35
    lesion = np.sqrt(((z + 15) / 20) ** 2 + ((y + 40) / 20) ** 2 + ((x + 25) / 14) ** 2) < 1
    hu[lesion] = 75
    return hu.astype(np.int16), brain, lesion


@pytest.fixture
def head() -> tuple[Hu, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    return make_head()


def make_dicom(path: Path, image: npt.NDArray[Any], position: Sequence[float], **tags: Any) -> None:
    """Writes one slice; `tags` override header fields, None removes them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "PatientName": "Doe^Jane", "PatientBirthDate": "19600102", "AccessionNumber": "A77", "Modality": "CT",
        "PatientID": "ID_0a1b2c3d", "StudyInstanceUID": "ID_11aa22bb33", "SeriesInstanceUID": "ID_44cc55dd66",
        "ImagePositionPatient": list(position), "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [PX_MM, PX_MM], "Rows": image.shape[0], "Columns": image.shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 1, "RescaleSlope": "1", "RescaleIntercept": "-1024", "WindowCenter": ["40", "600"],
        "WindowWidth": ["80", "2800"], "PixelData": image.astype("<i2").tobytes(),
    } | tags  # fmt: skip
    with pydicom.config.disable_value_validation():
        for name, value in values.items():
            if value is not None:
                setattr(data, name, value)
        data["PixelData"].VR = "OW"
        data.save_as(path)


def make_rsna(root: Path, patients: int = 4) -> Path:
    """Writes the RSNA layout; every other patient bleeds, file names are not in the order of positions."""
    folder = root / "stage_2_train"
    folder.mkdir(parents=True)
    hu, _, lesion = make_head()
    lines = ["ID,Label"]
    for p in range(patients):
        for s in range(SLICES):
            image = f"ID_{(p * 97 + s * 31) % 100:02d}{p}{s}abcde"
            image_hu = hu[s].copy()
            if p % 2:
                image_hu[lesion[s]] = 35
            make_dicom(
                folder / f"{image}.dcm", image_hu + 1024, [-124, -124, 100 + s * SLICE_MM],
                PatientID=f"ID_0000000{p}", StudyInstanceUID=f"ID_aaaaaaaa{p}", SeriesInstanceUID=f"ID_bbbbbbbb{p}",
            )  # fmt: skip
            bleeds = int(not p % 2 and lesion[s].any())
            lines += [f"{image}_{label},{bleeds * (label in ('any', 'subdural'))}" for label in LABELS]
    (root / "stage_2_train.csv").write_text("\n".join(lines) + "\n")
    return root


def make_ct_ich(root: Path, patients: int = 4, store: Callable[[Any], Any] = lambda volume: volume) -> Path:
    """Writes the CT-ICH layout in its orientation (columns left, rows anterior, slices up); odd patients bleed."""
    (root / "ct_scans").mkdir(parents=True)
    (root / "masks").mkdir()
    hu, _, lesion = make_head()
    columns = ["Intraventricular", "Intraparenchymal", "Subarachnoid", "Epidural", "Subdural"]
    lines = [",".join(["PatientNumber", "SliceNumber", *columns, "No_Hemorrhage", "Fracture_Yes_No"])]
    affine = np.diag([-PX_MM, -PX_MM, SLICE_MM, 1.0])  # LPS+ in nibabel's RAS+
    affine[:3, 3] = 124, 124, 50
    for p in range(patients):
        bleeds = bool(p % 2)
        scan, mask = hu.copy(), lesion & bleeds
        scan[lesion & (not bleeds)] = 35
        for kind, volume in (("ct_scans", scan.astype(np.float32)), ("masks", mask * np.float32(254.6))):
            nib.save(store(nib.Nifti1Image(volume.transpose(2, 1, 0), affine)), root / kind / f"{p + 49:03d}.nii")
        for s in range(SLICES):
            row = int(mask[s].any())
            lines.append(f"{p + 49},{s + 1},0,{row},0,0,0,{1 - row},0")
    (root / "hemorrhage_diagnosis_raw_ct.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def rsna_raw(tmp_path: Path) -> Path:
    return make_rsna(tmp_path / "rsna")


@pytest.fixture
def ct_raw(tmp_path: Path) -> Path:
    return make_ct_ich(tmp_path / "ct")


@pytest.fixture
def write_ct_ich() -> Callable[..., Path]:
    return make_ct_ich


@pytest.fixture
def write_dicom() -> Callable[..., None]:
    return make_dicom


@pytest.fixture
def report_of() -> Callable[[Path], dict[str, Any]]:
    return lambda out: dict(json.loads((out / "dataset.json").read_text())["report"])

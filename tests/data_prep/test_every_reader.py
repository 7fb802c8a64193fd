"""What people have of a public set: every reader takes it as it comes, and one bad file costs one study or image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from data_prep.findings import summary
from data_prep.preparation import prepare
from data_prep.study import READERS
from tests.data_prep.conftest import PX_MM, SLICE_MM, SLICES, make_ct_ich, make_dicom, make_head, make_rsna

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}
MASKS = {"ct-ich": ("ct_scans", "masks"), "bhsd": ("images", "ground truths"), "instance": ("data", "label")}
Report = Callable[[Path], dict[str, Any]]


def make_pairs(raw: Path, kind: str) -> Path:
    """Writes the layout of a set with masks: four scans, the bleed of mask value 1 or about 255."""
    if kind == "ct-ich":
        return make_ct_ich(raw)
    hu, _, lesion = make_head()
    for folder, volume in zip(MASKS[kind], (hu, lesion), strict=True):
        (raw / folder).mkdir(parents=True)
        for name in ("49", "50", "51", "52"):
            image = nib.Nifti1Image(volume.astype(np.int16).transpose(2, 1, 0), np.diag([-PX_MM, -PX_MM, SLICE_MM, 1]))
            nib.save(image, raw / folder / f"{name}.nii")
    return raw


def make_series(raw: Path, kind: str) -> Path:
    """Writes the layout of a set of DICOM files: two patients or more, one series each."""
    if kind == "rsna":
        return make_rsna(raw)
    hu, boxes = make_head()[0], ["SOPInstanceUID,data,labelName"]
    for patient in (1, 2):
        folder = raw / f"CQ500CT{patient} CQ500CT{patient}" / "CT"
        folder.mkdir(parents=True)
        for s in range(SLICES):
            make_dicom(
                folder / f"CT{s:06d}.dcm", hu[s] + 1024, [-124, -124, s * SLICE_MM], PatientID=f"CQ500CT{patient}",
                StudyInstanceUID=f"1.2.{patient}", SeriesInstanceUID=f"1.2.{patient}.1",
                SOPInstanceUID=f"1.2.{patient}.1.{s}",
            )  # fmt: skip
        boxes.append(f"1.2.{patient}.1.3,\"{{'x': 20, 'y': 15, 'width': 5, 'height': 5}}\",Subdural")
    if kind == "cq500":
        (raw / "3_Extrapolation_to_Selected_Series.csv").write_text("\n".join(boxes) + "\n")
        reads = ["name,R1:ICH,R2:ICH,R3:ICH", "CQ500-CT-1,1,1,1", "CQ500-CT-2,1,1,0"]
        (raw / "reads.csv").write_text("\n".join(reads) + "\n")
    return raw


def images_of(raw: Path) -> list[Path]:
    """All images, without tables."""
    return sorted(path for path in raw.rglob("*") if path.is_file() and path.suffix != ".csv")


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_with_a_slightly_different_affine_is_aligned_and_told(
    kind: str, tmp_path: Path, report_of: Report
) -> None:
    raw = make_pairs(tmp_path / "raw", kind)
    path = images_of(raw / MASKS[kind][1])[1]
    mask = nib.load(path)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(2e-3), -np.sin(2e-3)], [np.sin(2e-3), np.cos(2e-3)]]
    nib.save(nib.Nifti1Image(np.array(mask.dataobj), turn @ mask.affine), path)
    reader = READERS[kind]
    straight = make_pairs(tmp_path / "straight", kind)
    expected, found = (
        reader.read_study(folder, reader.list_studies(folder, 1, str).studies[1]) for folder in (straight, raw)
    )
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.mask.any()
    assert found.remarks.fixes == {**expected.remarks.fixes, "mask_moved": 1}
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    assert report_of(out)["mended"]["mask_moved"] == 1
    assert "fixed" in summary(out)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("part", [0, 1], ids=["scan", "mask"])
@pytest.mark.parametrize("damage", ["truncated", "text", "far"])
def test_one_bad_file_costs_one_study(kind: str, part: int, damage: str, tmp_path: Path, report_of: Report) -> None:
    raw = make_pairs(tmp_path / "raw", kind)
    path = images_of(raw / MASKS[kind][part])[2]
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "text":
        path.write_text("not found\n")
    else:
        image = nib.load(path)
        affine = image.affine.copy()
        affine[:3, 3] += 40
        nib.save(nib.Nifti1Image(np.array(image.dataobj), affine), path)
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    assert (report_of(out)["studies"], len(report_of(out)["skipped"])) == (3, 1)
    assert path.name in (tmp_path / "out.files.csv").read_text()


@pytest.mark.parametrize("kind", MASKS)
def test_nifti_files_without_a_suffix_are_recognised_by_their_content(
    kind: str, tmp_path: Path, report_of: Report
) -> None:
    raw = make_pairs(tmp_path / "raw", kind)
    for path in images_of(raw):
        if path.parent.name in MASKS[kind]:
            path.rename(path.with_suffix(""))
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    assert (report_of(out)["studies"], report_of(out)["skipped"]) == (4, [])


@pytest.mark.parametrize("kind", ["rsna", "cq500", "folder"])
@pytest.mark.parametrize("patient", ["", None], ids=["empty", "missing"])
def test_dicom_files_without_patient_id_or_suffix_are_read_by_study(
    kind: str, patient: str | None, tmp_path: Path, report_of: Report
) -> None:
    raw = make_series(tmp_path / "raw", kind)
    for path in images_of(raw):
        data = pydicom.dcmread(path)
        del data.PatientID
        if patient is not None:
            data.PatientID = patient
        with pydicom.config.disable_value_validation():
            data.save_as(path.with_suffix(""))
        path.unlink()
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    studies = 4 if kind == "rsna" else 2
    assert (report_of(out)["studies"], report_of(out)["skipped"]) == (studies, [])


@pytest.mark.parametrize("kind", ["rsna", "cq500", "folder"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_one_bad_image_costs_one_image(kind: str, damage: str, tmp_path: Path, report_of: Report) -> None:
    raw = make_series(tmp_path / "raw", kind)
    path = images_of(raw)[1]
    content = {"truncated": path.read_bytes()[:-2000], "text": b"not found\n", "empty": b""}[damage]
    path.write_bytes(content)
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    assert (report_of(out)["studies"], len(report_of(out)["skipped"])) == (4 if kind == "rsna" else 2, 1)
    assert path.name in (tmp_path / "out.files.csv").read_text()

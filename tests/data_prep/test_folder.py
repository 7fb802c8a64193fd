"""A folder of scans with any names, at any depth, with or without labels."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data_prep.findings import summary
from data_prep.preparation import prepare
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}
Report = Callable[[Path], dict[str, Any]]
SECRETS = ("Doe", "Jane", "1960-01-02", "19600102", "A77", "Ward", "PAT-77")


@pytest.fixture
def raw(tmp_path: Path, head: Any, write_dicom: Callable[..., None]) -> Path:
    """A DICOM series and a NIfTI file of two patients, in nested folders that are named after one of them."""
    raw = tmp_path / "scans"
    series = raw / "Ward 3" / "Doe^Jane" / "CT"
    series.mkdir(parents=True)
    for s in range(8):
        write_dicom(
            series / f"IM{(s * 3) % 8:04d}", head[0][s] + 1024, [-124, -124, s * 15.0], PatientID="PAT-77",
            StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4",
        )  # fmt: skip
    affine = np.diag([-4.0, -4.0, 15.0, 1.0])
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), affine), raw / "Doe^Jane.nii.gz")
    (raw / "readme.txt").write_text("made on 1960-01-02")
    (raw / ".hidden").write_text("")
    return raw


def test_scans_without_labels_are_kept_and_unlabelled(
    raw: Path, tmp_path: Path, head: Any, report_of: Report, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (raw / "loop").symlink_to(raw)
    out = prepare("folder", raw, tmp_path / "out", **SMALL)
    data = open_prepared(out, verify=True)
    assert not data.labelled
    assert (data.slices[list(LABELS)] == -1).all(axis=None)
    assert len(data.slices) == 16
    np.testing.assert_array_equal(data.hu[:8], data.hu[8:])  # the same head, once as DICOM and once as NIfTI
    right = slice(0, 16)  # the patient's right is column 0: only there is the lesion
    assert (data.hu[:][:, :, right] == 75).any()
    assert not (data.hu[:][:, :, 16:] == 75).any()
    assert set(data.slices["split"]) <= {"val", "test"}
    assert report_of(out)["skipped"] == [{"file": "file 10", "reason": "not a DICOM file"}]
    message = caplog.text + "".join(capfd.readouterr()) + data.slices.to_csv() + (out / "dataset.json").read_text()
    assert not [secret for secret in SECRETS if secret in message]


def test_labels_of_images_and_of_slices(raw: Path, tmp_path: Path, head: Any, report_of: Report) -> None:
    bleeds = head[2].any(axis=(1, 2)).astype(int)
    lines = ["file,slice,any,patient"]
    lines += [f"Ward 3/Doe^Jane/CT/IM{(s * 3) % 8:04d},,{bleeds[s]},PAT-78" for s in range(8)]
    lines += [f"Doe^Jane.nii.gz,{s + 1},{bleeds[s]},PAT-78" for s in range(7)] + ["gone.nii,1,0,x"]
    (raw / "labels.csv").write_text("\n".join(lines) + "\n")
    out = prepare("folder", raw, tmp_path / "out", **SMALL)
    data = open_prepared(out)
    assert data.labelled
    assert len(data.slices) == 15  # the last slice of the NIfTI file has no label
    assert data.slices["patient"].nunique() == 1  # that of the CSV file, which goes before the header
    assert data.slices["any"].tolist() in (
        [*bleeds.tolist(), *bleeds[:7].tolist()], [*bleeds[:7].tolist(), *bleeds.tolist()]
    )  # fmt: skip
    assert (data.slices.loc[data.slices["any"] == 1, list(SUBTYPES)] == -1).all(axis=None)
    assert report_of(out)["labels_without_image"] == {"count": 1}
    assert not [secret for secret in SECRETS if secret in (out / "dataset.json").read_text()]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("file,any\nunknown.nii,1\n", "labels of unknown.nii"),
        ("file,any\nDoe^Jane.nii.gz,maybe\n", "column any: got 'maybe' in row 2"),
        ("file,any,subdural\nDoe^Jane.nii.gz,0,1\n", "any = 0 with a subtype = 1"),
        ("file,slice,any\na.nii,1,0\na.nii,1,1\n", "different labels"),
        ("file,slice,any\na.nii,1.0,0\n", "column slice: got '1.0' in row 2"),
        ("file,slice,any,patient\na.nii,1,0,Meier\na.nii,2,0,Koch\n", "two patients for a.nii"),
        ("file,any,subdurall\na.nii,1,1\n", "column subdurall: .* Did you mean subdural"),
        ("name,any\na.nii,1\n", "expected file"),
    ],
)
def test_a_wrong_csv_is_an_error(csv: str, message: str, raw: Path, tmp_path: Path) -> None:
    (raw / "labels.csv").write_text(csv)
    with pytest.raises(InputError, match=message):
        prepare("folder", raw, tmp_path / "out", **SMALL)


def test_what_is_no_slice_is_named(
    raw: Path, tmp_path: Path, head: Any, write_dicom: Callable[..., None], report_of: Report
) -> None:
    series = raw / "Ward 3" / "Doe^Jane" / "CT"
    for name, tags in {
        "a": {"Modality": "MR"},
        "b": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        "c": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "d": {"NumberOfFrames": 3, "PixelData": np.zeros((3, 64, 64), "<i2").tobytes()},
    }.items():
        write_dicom(series / name, head[0][0] + 1024, [-124, -124, 0], PatientID="PAT-77", **tags)
    reasons = [entry["reason"] for entry in report_of(prepare("folder", raw, tmp_path / "out", **SMALL))["skipped"]]
    assert sorted(reasons) == ["a localiser", "a secondary capture", "not a CT", "not a DICOM file", "several frames"]


def test_broken_links_and_pipes_are_counted_and_an_empty_modality_is_none(
    raw: Path, tmp_path: Path, head: Any, write_dicom: Callable[..., None], report_of: Report
) -> None:
    (raw / "gone.nii").symlink_to(raw / "nowhere.nii")
    os.mkfifo(raw / "pipe.dcm")
    series = raw / "Ward 3" / "Doe^Jane" / "CT"
    tags = {"PatientID": "PAT-77", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "Modality": ""}
    write_dicom(series / "IM0000", head[0][0] + 1024, [-124, -124, 0.0], **tags)
    out = prepare("folder", raw, tmp_path / "out", **SMALL)
    assert report_of(out)["no_files"] == {"count": 2}
    assert len(open_prepared(out).slices) == 16


def test_a_folder_instead_of_the_csv_is_an_error(raw: Path, tmp_path: Path) -> None:
    (raw / "labels.csv").mkdir()
    with pytest.raises(InputError, match=r"labels\.csv: got no file"):
        prepare("folder", raw, tmp_path / "out", **SMALL)


@pytest.mark.parametrize("mm", [1e-9, 5e-4, 1e6])
def test_lengths_in_another_unit_are_named_and_the_rest_goes_on(
    mm: float, raw: Path, tmp_path: Path, head: Any, report_of: Report
) -> None:
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-mm, -mm, 4 * mm, 1])), raw / "a.nii")
    report = report_of(prepare("folder", raw, tmp_path / "out", **SMALL))
    assert report["studies"] == 2
    assert [entry["reason"] for entry in report["skipped"] if "mm" in entry["reason"]] == [
        f"pixels of {mm:.3g} × {mm:.3g} mm, not 0.05 to 10"
    ]


def test_what_was_not_taken_is_told_at_once(raw: Path, tmp_path: Path, head: Any, write_dicom: Any) -> None:
    where = raw / "Ward 3" / "Doe^Jane" / "CT" / "again"
    write_dicom(
        where, head[0][0] + 1024, [-124, -124, 0.0], PatientID="PAT-77", StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4", SOPInstanceUID="1.2.3.4.99",
    )  # fmt: skip
    (raw / "labels.csv").write_text("file,slice,any\nDoe^Jane.nii.gz,1,0\nDoe^Jane.nii.gz,99,0\n")
    told = summary(prepare("folder", raw, tmp_path / "out", **SMALL)).splitlines()
    cells = [re.split("  +", line.strip()) for line in told[1:-1]]
    assert cells[0] == ["count", "finding", "what to do"]
    assert ["1", "label rows without an image", "check the names in the table"] in cells
    assert ["1", "copies of an image", "nothing: one of them was taken"] in cells
    assert told[-1].startswith(f"Names of the files: {tmp_path}/out.files.csv")
    listed = (tmp_path / "out.files.csv").read_text(encoding="utf-8").splitlines()
    assert '"Doe^Jane.nii.gz, slice 99",a label without an image' in listed
    assert "readme.txt,not a DICOM file" in listed
    assert stat.S_IMODE((tmp_path / "out.files.csv").stat().st_mode) == 0o600


def test_a_name_that_is_no_text_does_no_harm(raw: Path, tmp_path: Path) -> None:
    (raw / os.fsdecode(b"m\xfcller.txt")).write_text("")
    assert open_prepared(prepare("folder", raw, tmp_path / "out", **SMALL))


def test_a_salt_that_is_not_there_is_an_error(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"salt .*: got no such file"):
        prepare("folder", raw, tmp_path / "out", salt=tmp_path / "slat", **SMALL)
    assert not (tmp_path / "slat").exists()


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        prepare("folder", tmp_path / "empty", tmp_path / "out", **SMALL)

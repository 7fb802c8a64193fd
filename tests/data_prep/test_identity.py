"""Who is who: patients from the table, the header, the study or the folder; studies that may share one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data_prep.dicom_volumes import Header
from data_prep.findings import summary
from data_prep.identity import identify, known_id
from data_prep.preparation import prepare
from hgisam.data.prepared import open_prepared

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}
Report = Callable[[Path], dict[str, Any]]


def image(file: str, patient: str = "", study: str = "", series: str = "") -> Header:
    return Header(file, 0, 1, patient, study, series, "axial", 0.0, (), ())


@pytest.mark.parametrize("text", ["", "  ", "\0\0", "^^", "---", "?", "_", "\u3000"])
def test_a_blank_id_is_an_empty_id(text: str) -> None:
    assert known_id(text) == ""


def test_ids_are_kept_without_the_blanks_around_them() -> None:
    assert [known_id(text) for text in (" P 1 ", "\u00a0P1\0", "Müller", "0")] == ["P 1", "P1", "Müller", "0"]


@pytest.mark.parametrize(
    ("patients", "header", "patient", "study"),
    [
        ({"a/1": "table"}, ("P1", "1.2", "1.2.3"), "table", "1.2"),
        ({}, ("P1", "1.2", "1.2.3"), "P1", "1.2"),
        ({"b/1": "table"}, (" P1 ", "1.2", "1.2.3"), "P1", "1.2"),
        ({}, ("", "1.2", "1.2.3"), "1.2", "1.2"),
        ({}, (" ", "", "1.2.3"), "1.2.3", "1.2.3"),
        ({}, ("P1", "", ""), "P1", "P1 in a"),
        ({}, ("", "", ""), " in a", " in a"),
    ],
)
def test_the_patient_is_that_of_the_table_or_the_header_or_the_study_or_the_folder(
    patients: dict[str, str], header: tuple[str, str, str], patient: str, study: str
) -> None:
    (found,), unknown, skipped = identify([image("a/1", *header)], patients)
    assert (found.patient, found.study, skipped) == (patient, study, [])
    assert unknown == ({study} if patient == study else set())


def test_one_image_that_has_the_id_names_the_patient_of_its_study() -> None:
    found, unknown, _ = identify([image("a/1", "", "1.2"), image("a/2", "P1", "1.2"), image("a/3", " ", "1.2")], {})
    assert [header.patient for header in found] == ["P1"] * 3
    assert not unknown


def test_a_study_under_several_ids_is_skipped_alone() -> None:
    headers = [image("a/1", "ABC1", "1.2"), image("a/2", "abc1", "1.2"), image("b/1", "P2", "1.3")]
    found, _, skipped = identify(headers, {})
    assert [header.file for header in found] == ["b/1"]
    assert skipped == [("a/1", "2 images of one study under 2 patient ids")]
    found, _, skipped = identify(headers, {"a/1": "X", "a/2": "Y"})
    assert [header.file for header in found] == ["b/1"]
    found, _, skipped = identify(headers, {"a/1": "X"})  # the table decides
    assert [header.patient for header in found] == ["X", "X", "P2"]
    assert not skipped


@pytest.mark.parametrize(("patient", "unsure"), [("ANONYMOUS", True), ("0000", True), ("P0007", False)])
def test_an_id_that_names_nobody_is_doubted_where_several_studies_share_it(patient: str, unsure: bool) -> None:
    headers = [image(f"{study}/1", patient, study) for study in ("1.1", "1.2")]
    assert identify(headers, {})[1] == ({"1.1", "1.2"} if unsure else set())
    assert identify(headers[:1], {})[1] == set()


Writer = Callable[..., None]


@pytest.fixture
def write_study(tmp_path: Path, head: Any, write_dicom: Writer) -> Callable[..., None]:
    """Writes a series of eight slices into a folder of `tmp_path/raw`, some images of another id."""

    def write(folder: str, study: str, patient: str | None, *, other: str | None = None, width: float = 4.0) -> None:
        (tmp_path / "raw" / folder).mkdir(parents=True)
        for s in range(8):
            write_dicom(
                tmp_path / "raw" / folder / str(s), head[0][s] + 1024, [-124, -124, s * 15.0],
                PatientID=other if other and s % 2 else patient, StudyInstanceUID=study,
                SeriesInstanceUID=f"{study}.1", PixelSpacing=[4.0, width],
            )  # fmt: skip

    return write


def table_of(out: Path) -> dict[str, str]:
    """Finding → count of the table on the terminal."""
    lines = [line.strip().split("  ") for line in summary(out).splitlines()[2:-1]]
    return {cells[1]: cells[0] for cells in lines}


def test_studies_under_two_ids_and_without_any(tmp_path: Path, write_study: Any, report_of: Report) -> None:
    write_study("a", "1.1", "G1")
    write_study("b", "1.2", "ABC1", other="abc1")
    write_study("c", "1.3", " ")
    write_study("d", "1.4", None)
    out = prepare("folder", tmp_path / "raw", tmp_path / "out", **SMALL)
    report, slices = report_of(out), open_prepared(out).slices
    assert (report["studies"], slices["patient"].nunique(), report["no_patient_id"]["count"]) == (3, 3, 2)
    assert [entry["reason"] for entry in report["skipped"]] == ["8 images of one study under 2 patient ids"]
    assert table_of(out)["studies without a patient id"] == "2"
    listed = (tmp_path / "out.files.csv").read_text()
    assert "b/0,8 images of one study under 2 patient ids" in listed
    assert "c/0,studies without a patient id: h_" in listed
    assert "G1" not in (out / "dataset.json").read_text()


def test_one_id_over_many_studies(tmp_path: Path, write_study: Any, report_of: Report) -> None:
    for number, width in enumerate((3.2, 4.0, 4.0)):
        write_study(f"a{number}", f"1.1.{number}", "ANONYMOUS")
        write_study(f"b{number}", f"1.2.{number}", "12345", width=width)  # heads that differ in their width
        write_study(f"c{number}", f"1.3.{number}", "67890")
    out = prepare("folder", tmp_path / "raw", tmp_path / "out", **SMALL)
    report, slices = report_of(out), open_prepared(out).slices
    assert report["shared_patient_id"]["count"] == 6
    assert slices.groupby("patient")["split"].nunique().max() == 1
    files = [line for line in (tmp_path / "out.files.csv").read_text().splitlines() if "several people" in line]
    assert sorted(line[:2] for line in files) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    rows = [f"{letter}{number}/{s},0,{letter}{number}" for letter in "abc" for number in range(3) for s in range(8)]
    (tmp_path / "raw" / "labels.csv").write_text("\n".join(["file,any,patient", *rows]))
    again = prepare("folder", tmp_path / "raw", tmp_path / "out", **SMALL)
    assert open_prepared(again).slices["patient"].nunique() == 9
    assert report_of(again)["shared_patient_id"]["count"] == report_of(again)["no_patient_id"]["count"] == 0


def test_two_series_of_a_study_without_id_are_one_patient(
    tmp_path: Path, head: Any, write_dicom: Writer, report_of: Report
) -> None:
    for series in ("1.1.1", "1.1.2"):
        (tmp_path / "raw" / series).mkdir(parents=True)
        for s in range(8):
            write_dicom(
                tmp_path / "raw" / series / str(s), head[0][s] + 1024, [-124, -124, s * 15.0], PatientID="",
                StudyInstanceUID="1.1", SeriesInstanceUID=series,
            )  # fmt: skip
    out = prepare("folder", tmp_path / "raw", tmp_path / "out", **SMALL)
    assert open_prepared(out).slices["patient"].nunique() == 1
    assert report_of(out)["shared_patient_id"]["count"] == 0
    assert report_of(out)["no_patient_id"]["count"] == 2


def test_nifti_files_without_a_table_may_share_a_patient(tmp_path: Path, head: Any, report_of: Report) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a", "b"):
        volume = nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4.0, -4.0, 15.0, 1.0]))
        nib.save(volume, tmp_path / "raw" / f"{name}.nii")
    (tmp_path / "raw" / "labels.csv").write_text("file,slice,any,patient\na.nii,1,0,P1\na.nii,2,0,\nb.nii,1,0, \n")
    out = prepare("folder", tmp_path / "raw", tmp_path / "out", **SMALL)
    assert report_of(out)["no_patient_id"]["count"] == 1
    assert report_of(out)["unlabelled"]["count"] == 13
    assert table_of(out)["images or slices without a label"] == "13"
    assert "b.nii,studies without a patient id" in (tmp_path / "out.files.csv").read_text()

"""Every known defect of the RSNA layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import rsna
from data_prep.preparation import prepare
from data_prep.volume import UnusableError, Volume
from hgisam.data.labels import LABELS
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

Writer = Callable[..., None]
SMALL: dict[str, Any] = {"image_px": 32, "folds": 2}


def series(raw: Path, number: int = 0) -> Volume:
    listing = rsna.list_studies(raw, 1, str)
    return rsna.read_study(raw, listing.studies[number])


def file_of(raw: Path, patient: int, slice_: int) -> Path:
    return next((raw / "stage_2_train").glob(f"ID_??{patient}{slice_}abcde.dcm"))


def test_slices_are_sorted_by_position_not_by_name(rsna_raw: Path, head: Any) -> None:
    volume = series(rsna_raw)
    assert np.array_equal(volume.hu, np.maximum(head[0], -1024))
    assert np.allclose(volume.positions_mm, np.arange(8) * 15)
    assert sorted(volume.source_index) == list(range(8))


@pytest.mark.parametrize(
    ("orientation", "reoriented", "position"),
    [
        ([-1, 0, 0, 0, 1, 0], lambda image: image[:, ::-1], [128, -124]),
        ([1, 0, 0, 0, -1, 0], lambda image: image[::-1], [-124, 128]),
        ([0, 1, 0, 1, 0, 0], lambda image: image.T, [-124, -124]),
        ([0, -1, 0, 1, 0, 0], lambda image: image.T[:, ::-1], [-124, 128]),
    ],
)
def test_any_axial_orientation_gives_the_same_volume(
    orientation: list[int], reoriented: Any, position: list[int], rsna_raw: Path, head: Any, write_dicom: Writer
) -> None:
    for s in range(8):
        path = file_of(rsna_raw, 0, s)
        write_dicom(
            path, reoriented(head[0][s]) + 1024, [*position, s * 15], ImageOrientationPatient=orientation,
            PatientID="ID_00000000", StudyInstanceUID="ID_aaaaaaaa0", SeriesInstanceUID="ID_bbbbbbbb0",
        )  # fmt: skip
    volume = series(rsna_raw)
    assert np.array_equal(volume.hu, head[0])
    assert np.allclose(volume.drift_px, 0)


def test_a_tilted_gantry_drifts_and_is_aligned_on_the_grid(
    rsna_raw: Path, tmp_path: Path, head: Any, write_dicom: Writer
) -> None:
    tilt = np.deg2rad(20)
    for s in range(8):
        write_dicom(
            file_of(rsna_raw, 0, s), head[0][s] + 1024, [-124, -124, s * 15 / np.cos(tilt)],
            ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(tilt)), float(-np.sin(tilt))],
            PatientID="ID_00000000", StudyInstanceUID="ID_aaaaaaaa0", SeriesInstanceUID="ID_bbbbbbbb0",
        )  # fmt: skip
    volume = series(rsna_raw)
    assert np.allclose(np.diff(volume.positions_mm), 15)
    assert np.allclose(np.diff(volume.drift_px[:, 0]), -15 * np.tan(tilt) / 4)
    prepared = open_prepared(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL))
    rows = prepared.slices[prepared.slices["study"] == "ID_aaaaaaaa0"]
    assert np.allclose(np.diff(rows["native_row0"]), 15 * np.tan(tilt) / 4)


def test_the_wrong_intercept_is_fixed_and_counted(rsna_raw: Path, head: Any, write_dicom: Writer) -> None:
    stored = (head[0][2] + 1000 - 1000) % 4096  # HU as they should have been stored with -1000, less 1000, wrapped
    write_dicom(
        file_of(rsna_raw, 0, 2), stored, [-124, -124, 130], BitsStored=12, HighBit=11, PixelRepresentation=0,
        RescaleIntercept="0", PatientID="ID_00000000", StudyInstanceUID="ID_aaaaaaaa0",
        SeriesInstanceUID="ID_bbbbbbbb0",
    )  # fmt: skip
    volume = series(rsna_raw)
    assert volume.remarks.fixes == {"intercept": 1}
    assert np.array_equal(volume.hu[2], head[0][2])


def test_decimal_scale_and_padding(rsna_raw: Path, write_dicom: Writer) -> None:
    image = np.full((64, 64), 100)
    image[0] = -3000
    write_dicom(
        file_of(rsna_raw, 0, 0), image, [-124, -124, 100], RescaleSlope="0.5", RescaleIntercept="-10.25",
        PatientID="ID_00000000", StudyInstanceUID="ID_aaaaaaaa0", SeriesInstanceUID="ID_bbbbbbbb0",
    )  # fmt: skip
    volume = series(rsna_raw)
    assert volume.hu[0, 5, 5] == pytest.approx(39.75)
    assert (volume.hu[0, 0] == -1024).all()


def test_bad_files_are_skipped_and_named(
    rsna_raw: Path, tmp_path: Path, write_dicom: Writer, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    same: dict[str, Any] = {
        "PatientID": "ID_00000000", "StudyInstanceUID": "ID_aaaaaaaa0", "SeriesInstanceUID": "ID_bbbbbbbb0"
    }  # fmt: skip
    image = np.zeros((64, 64))
    short, cut, empty, text, other, placeless, small = (file_of(rsna_raw, 0, s) for s in range(7))
    write_dicom(short, image, [-124, -124, 100], PixelData=b"\0" * 4000, **same)
    cut.write_bytes(cut.read_bytes()[:-3000])
    empty.write_bytes(b"")
    text.write_text("no image")
    write_dicom(other, image, [-124, -124, 100], **(same | {"Modality": "MR"}))
    write_dicom(placeless, image, [-124, -124, 100], ImagePositionPatient=None, **same)
    write_dicom(small, image[:32, :32], [-124, -124, 190], **same)
    out = prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)
    reasons = {entry["file"]: entry["reason"] for entry in report_of(out)["skipped"]}
    names = [f"stage_2_train/{path.name}" for path in (short, cut, empty, text, other, placeless)]
    assert set(names) <= set(reasons)
    assert reasons[names[0]] == reasons[names[1]] == "short pixel data"
    assert reasons[names[3]] == "not a DICOM file"
    assert reasons[names[4]] == "not a CT"
    assert reasons[names[5]] == "no ImagePositionPatient"
    assert len(reasons) == 7  # one of the two sizes that are left
    assert "Doe" not in (out / "dataset.json").read_text()


def test_no_identifying_tag_reaches_an_output(
    rsna_raw: Path, tmp_path: Path, write_dicom: Writer, head: Any, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for s in range(8):
        write_dicom(
            file_of(rsna_raw, 0, s), head[0][s] + 1024, [-124, -124, s * 15], PatientID="Miller 19600102",
            StudyInstanceUID="1.2.840.77", SeriesInstanceUID="1.2.840.78", PatientAge="unknown value",
        )  # fmt: skip
    out = prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)
    slices = open_prepared(out).slices
    assert slices["patient"].str.startswith("h_").sum() == slices["study"].str.startswith("h_").sum() == 8
    message = caplog.text + "".join(capfd.readouterr()) + slices.to_csv() + (out / "dataset.json").read_text()
    for secret in ("Miller", "Doe", "19600102", "A77", "1.2.840"):
        assert secret not in message


def test_a_duplicate_position_keeps_the_first(rsna_raw: Path) -> None:
    folder = rsna_raw / "stage_2_train"
    original = file_of(rsna_raw, 0, 3)
    (folder / "ID_zzzzzzzzz.dcm").write_bytes(original.read_bytes())
    volume = series(rsna_raw)
    assert len(volume.hu) == 8
    assert volume.remarks.duplicates == 1
    assert (volume.labels >= 0).all()


def test_images_without_labels_and_labels_without_images(
    rsna_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    table = rsna_raw / "stage_2_train.csv"
    lost, gone = file_of(rsna_raw, 0, 7).stem, file_of(rsna_raw, 1, 0)
    lines = [line for line in table.read_text().splitlines() if not line.startswith(lost)]
    table.write_text("\n".join(lines + lines[-6:]) + "\n")
    gone.unlink()
    out = prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)
    report = report_of(out)
    assert report["unlabelled"] == {"count": 1, "first": [f"stage_2_train/{lost}.dcm"]}
    assert report["labels_without_image"] == {"count": 1, "first": [gone.stem]}
    assert report["duplicate_label_rows"] == 6
    assert len(open_prepared(out).slices) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + text.splitlines()[1].replace(",0", ",1") + "\n", "0 and 1 for the same label"),
        (lambda text: text.replace("abcde", "zzzzz"), "labels of"),
        (lambda text: text.replace("Label", "Target"), "columns"),
        (lambda text: text.replace(",1", ",2"), "0 or 1"),
        (lambda text: text.replace("_epidural", "_epidurall"), "column ID"),
        (lambda text: text.replace("_any,1", "_any,0"), "any = 0 with a subtype = 1"),
        (lambda text: "ID,Label\n", "no rows"),
        (lambda text: "", "unreadable"),
    ],
)
def test_a_wrong_csv_is_an_error(change: Any, message: str, rsna_raw: Path, tmp_path: Path) -> None:
    table = rsna_raw / "stage_2_train.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(InputError, match=message):
        prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)


def test_several_series_of_a_study_stay_apart(rsna_raw: Path, write_dicom: Writer, head: Any) -> None:
    for s in range(8):
        write_dicom(
            file_of(rsna_raw, 1, s), head[0][s] + 1024, [-124, -124, s * 15], PatientID="ID_00000000",
            StudyInstanceUID="ID_aaaaaaaa0", SeriesInstanceUID="ID_bbbbbbbb1",
        )  # fmt: skip
    names = [study.study for study in rsna.list_studies(rsna_raw, 1, str).studies]
    assert names[:2] == ["ID_aaaaaaaa0.ID_bbbbbbbb0", "ID_aaaaaaaa0.ID_bbbbbbbb1"]


def test_sagittal_series_are_unusable(rsna_raw: Path, write_dicom: Writer) -> None:
    for s in range(8):
        write_dicom(
            file_of(rsna_raw, 0, s), np.zeros((64, 64)), [s, 0, 0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            PatientID="ID_00000000", StudyInstanceUID="ID_aaaaaaaa0", SeriesInstanceUID="ID_bbbbbbbb0",
        )  # fmt: skip
    with pytest.raises(UnusableError, match="not axial"):
        series(rsna_raw)


def test_one_patient_cannot_be_split(rsna_raw: Path, tmp_path: Path) -> None:
    for path in (rsna_raw / "stage_2_train").glob("*.dcm"):
        if path.stem[5] != "0":
            path.unlink()
    with pytest.raises(InputError, match="at least two patients"):
        prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)


def test_labels_have_the_order_of_the_contract(rsna_raw: Path) -> None:
    labels, twice = rsna.read_labels(rsna_raw / "stage_2_train.csv")
    assert list(labels.columns) == list(LABELS)
    assert twice == 0
    assert labels["any"].equals(labels["subdural"].rename("any"))

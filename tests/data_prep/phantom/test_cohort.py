"""Phantom cohorts on disk: layouts, determinism, resuming, refused input."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from data_prep.phantom import cohort, make_patient, write_phantom
from data_prep.phantom.layouts import RSNA_SUFFIXES, ct_ich_number, image_ids, stored_pixels
from hgisam.errors import InputError


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def rsna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("a") / "rsna", layout="rsna", patients=2, seed=1, matrix=48)


@pytest.fixture(scope="module")
def ct_ich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom(tmp_path_factory.mktemp("b") / "ct-ich", layout="ct-ich", patients=2, seed=1, matrix=48)


def test_rsna_layout(rsna: Path) -> None:
    table = pd.read_csv(rsna / "stage_2_train.csv")
    files = sorted(file.stem for file in (rsna / "stage_2_train").glob("*.dcm"))
    assert list(table.columns) == ["ID", "Label"]
    assert len(table) == 6 * len(files)
    parts = table["ID"].str.rsplit("_", n=1)
    assert sorted(set(parts.str[0])) == files
    assert set(parts.str[1]) == set(RSNA_SUFFIXES)
    assert all(len(name) == 12 and name.startswith("ID_") for name in files)
    assert set(table["Label"]) <= {0, 1}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_rsna_files_have_patient_and_position(rsna: Path) -> None:
    images = [pydicom.dcmread(file) for file in sorted((rsna / "stage_2_train").glob("*.dcm"))]
    patients = {str(image.PatientID) for image in images}
    assert len(patients) == 2
    for patient in patients:
        heights = [float(i.ImagePositionPatient[2]) for i in images if i.PatientID == patient]
        assert len(set(heights)) == len(heights)
        assert heights != sorted(heights)  # names are not in slice order
    first = images[0]
    assert first.pixel_array.shape == (48, 48)
    np.testing.assert_allclose(np.linalg.norm(first.ImageOrientationPatient[3:]), 1, atol=1e-5)


def test_known_intercept_defect_can_be_fixed() -> None:
    patient = make_patient(1, 0, "training", matrix=32)
    broken = replace(patient, scanner=replace(patient.scanner, bits_stored=12, signed=False, intercept=0))
    fixed = stored_pixels(broken).astype(int) + 1000
    fixed[fixed >= 4096] -= 4096
    np.testing.assert_array_equal(fixed - 1000, np.clip(patient.hu, -1000, 3070))


def test_ct_ich_layout(ct_ich: Path) -> None:
    table = pd.read_csv(ct_ich / "hemorrhage_diagnosis_raw_ct.csv")
    assert list(table["PatientNumber"].unique()) == [49, 50]
    for number, rows in table.groupby("PatientNumber"):
        scan, mask = (nib.load(ct_ich / name / f"{number:03d}.nii") for name in ("ct_scans", "masks"))
        assert scan.shape == mask.shape
        assert nib.aff2axcodes(scan.affine) == ("L", "A", "S")
        np.testing.assert_array_equal(rows["SliceNumber"], np.arange(1, scan.shape[2] + 1))
        values = np.asarray(mask.dataobj)
        assert set(np.unique(values)) <= {0, 255}
        np.testing.assert_array_equal(1 - rows["No_Hemorrhage"], (values > 0).any(axis=(0, 1)).astype(int))


def test_ct_ich_holds_the_patient_in_its_orientation(ct_ich: Path) -> None:
    patient = make_patient(1, 0, "evaluation", matrix=48)
    volume = np.asarray(nib.load(ct_ich / "ct_scans" / "049.nii").dataobj)
    np.testing.assert_array_equal(volume.transpose(2, 1, 0)[:, ::-1], patient.hu)


def test_numbers_follow_ct_ich() -> None:
    assert [ct_ich_number(index) for index in (0, 9, 10, 11)] == [49, 58, 66, 67]


def test_image_ids_never_repeat() -> None:
    ids = [name for index in range(200) for name in image_ids(4, index, 60)]
    assert len(set(ids)) == len(ids)


def test_jobs_do_not_change_a_byte_and_the_path_may_be_a_string(rsna: Path, tmp_path: Path) -> None:
    again = write_phantom(str(tmp_path / "rsna"), layout="rsna", patients=2, seed=1, jobs=2, matrix=48)
    assert again == tmp_path / "rsna"
    assert fingerprint(again) == fingerprint(rsna)


def test_an_error_in_a_worker_is_raised_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "rsna"
    blocked = out.with_name("rsna.partial") / "stage_2_train"
    blocked.parent.mkdir()
    blocked.write_text("a file where a folder must be")
    parameters = {"layout": "rsna", "patients": 2, "seed": 1, "matrix": 48}
    record = parameters | {"generator_version": cohort.GENERATOR_VERSION}
    (blocked.parent / "parameters.json").write_text(json.dumps(record))
    with pytest.raises(FileExistsError, match="stage_2_train"):
        write_phantom(out, jobs=2, **parameters)  # type: ignore[arg-type]
    assert not out.exists()


def test_resumes_after_an_interruption(ct_ich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    write_patient = cohort._write_patient

    def interrupted(partial: Path, layout: cohort.Layout, seed: int, index: int, matrix: int) -> None:
        if index == 1 and not made.count(1):
            made.append(index)
            raise KeyboardInterrupt
        made.append(index)
        write_patient(partial, layout, seed, index, matrix)

    monkeypatch.setattr(cohort, "_write_patient", interrupted)
    out = tmp_path / "ct-ich"
    with pytest.raises(KeyboardInterrupt):
        write_phantom(out, layout="ct-ich", patients=2, seed=1, matrix=48)
    assert not out.exists()
    write_phantom(out, layout="ct-ich", patients=2, seed=1, matrix=48)
    assert made == [0, 1, 1]
    assert fingerprint(out) == fingerprint(ct_ich)
    assert not out.with_name("ct-ich.partial").exists()


def test_complete_cohort_is_left_alone_and_another_is_refused(ct_ich: Path) -> None:
    before = fingerprint(ct_ich)
    write_phantom(ct_ich, layout="ct-ich", patients=2, seed=1, matrix=48)
    with pytest.raises(InputError, match="phantom folder"):
        write_phantom(ct_ich, layout="ct-ich", patients=2, seed=2, matrix=48)
    assert fingerprint(ct_ich) == before


def test_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no phantom cohort"):
        write_phantom(tmp_path / "mine", layout="rsna", patients=1, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "bhsd"}, {"patients": 0}, {"seed": -1}, {"jobs": 0}, {"matrix": 8}],
    ids=lambda w: next(iter(w)),
)
def test_wrong_arguments_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"layout": "rsna", "patients": 1, "seed": 0} | wrong
    with pytest.raises(InputError, match=f"phantom {next(iter(wrong))}"):
        write_phantom(tmp_path / "x", **arguments)  # type: ignore[arg-type]


def test_the_record_declares_the_data_synthetic(ct_ich: Path) -> None:
    record = json.loads((ct_ich / "phantom.json").read_text())
    assert record["synthetic"] is True
    assert "Synthetic" in record["statement"]
    assert record["cohort"] == "evaluation"

"""The right series of a study, with its reason; and what people have for a scan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from hgisam.errors import InputError
from hgisam_scans.candidates import DIRECTORY, find_scans
from hgisam_scans.segmentation import segment_series
from hgisam_scans.series_choice import by_study, choose_series

Series = Callable[..., list[Path]]


@pytest.fixture
def study(series: Series, tmp_path: Path) -> Path:
    """Scout, thin, contrast, bone kernel, dose report, and the one for this job, which is neither first nor last."""
    raw = tmp_path / "study"
    fine = [5.0 * s / 8 for s in range(8)]
    series(raw / "a", uid="1.1", number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series(raw / "b", uid="1.2", number=2, positions=fine)
    series(raw / "c", uid="1.3", number=3, ContrastBolusAgent="Iopamidol")
    series(raw / "d", uid="1.4", number=4, ConvolutionKernel="H31s", positions=[5.0 * s for s in range(8)])
    series(raw / "e", uid="1.5", number=5, ConvolutionKernel="H60s", positions=[5.0 * s for s in range(8)])
    series(raw / "f", uid="1.6", number=6, Modality="SR")
    return raw


def test_the_series_for_this_job_is_chosen_with_the_reason(study: Path) -> None:
    found = find_scans(study)
    (candidates,) = by_study(found.candidates)
    (choice,) = choose_series(candidates)
    assert choice.chosen.number == 4
    against = dict(choice.others)
    assert {text.split(" ")[1]: trait for text, trait in against.items()} == {
        "2": "thin slices", "3": "contrast medium, thick slices", "5": "a sharp kernel",
    }  # fmt: skip
    assert {reason for _, reason in found.skipped} == {"a localiser", "not a CT"}


@pytest.mark.parametrize(("given", "number"), [("2", 2), ("1.5", 5)])
def test_a_number_or_a_uid_chooses(given: str, number: int, study: Path) -> None:
    (candidates,) = by_study(find_scans(study).candidates)
    assert choose_series(candidates, given)[0].chosen.number == number


def test_all_series_and_unknown_ones(study: Path) -> None:
    (candidates,) = by_study(find_scans(study).candidates)
    assert [choice.chosen.number for choice in choose_series(candidates, "all")] == [2, 3, 4, 5]
    with pytest.raises(InputError, match=r"--series: got 9, expected one of series 4 \(8 slices of 5 mm\); series"):
        choose_series(candidates, "9")


@pytest.mark.parametrize("missing", [{"PatientID": None}, {"PatientID": ""}, {"PatientID": None, "SeriesNumber": None}])
def test_a_scan_without_a_patient_id_is_read(missing: dict[str, Any], series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw", **missing)
    (candidate,) = find_scans(tmp_path / "raw").candidates
    assert candidate.slices == 8
    assert not candidate.study.patient_known


def test_two_scans_under_one_uid_are_two(series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw" / "first")
    series(tmp_path / "raw" / "second", turn=lambda image: image // 2)
    found = find_scans(tmp_path / "raw").candidates
    assert [candidate.slices for candidate in found] == [8, 8]
    assert len({candidate.key for candidate in found}) == 2
    assert len(by_study(found)) == 2


def test_two_scans_under_one_uid_in_one_folder_are_never_mixed(series: Series, network: Any, tmp_path: Path) -> None:
    series(tmp_path / "raw")
    for path in series(tmp_path / "other", turn=lambda image: image // 2):
        path.rename(tmp_path / "raw" / f"b{path.name}")
    (candidate,) = find_scans(tmp_path / "raw").candidates
    with pytest.raises(InputError, match="different images at one place"):
        segment_series(choose_series([candidate])[0], [network])


def test_a_series_in_two_folders_is_one(series: Series, tmp_path: Path) -> None:
    files = series(tmp_path / "raw" / "first")
    (tmp_path / "raw" / "second").mkdir()
    for path in files[::2]:
        path.rename(tmp_path / "raw" / "second" / path.name)
    assert [candidate.slices for candidate in find_scans(tmp_path / "raw").candidates] == [8]


def test_a_nifti_file_needs_no_suffix(head: Any, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4, -4, 15, 1])), tmp_path / "scan.nii")
    (tmp_path / "scan.nii").rename(tmp_path / "scan")
    (candidate,) = find_scans(tmp_path / "scan").candidates
    assert (candidate.kind, candidate.slices, candidate.slice_mm) == ("NIfTI", 8, 15.0)


def test_a_dicomdir_stands_for_its_files(series: Series, tmp_path: Path) -> None:
    files = series(tmp_path / "disc" / "IMAGES")
    series(tmp_path / "disc" / "OTHER", uid="9.9", study="9")
    directory = Dataset()
    records = []
    for path in [*files, tmp_path / "disc" / ".." / "outside"]:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = list(path.relative_to(tmp_path / "disc").parts)
        records.append(record)
    directory.DirectoryRecordSequence = records
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = DIRECTORY
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    directory.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    directory.preamble = bytes(128)
    directory.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=False)
    (candidate,) = find_scans(tmp_path / "disc" / "DICOMDIR").candidates
    assert candidate.slices == 8
    assert len(find_scans(tmp_path / "disc").candidates) == 2  # the folder has a second study; its DICOMDIR is no scan


@pytest.mark.parametrize(("name", "got"), [("nowhere", "no such file or folder"), ("empty", "no file")])
def test_what_is_no_scan_is_one_line(name: str, got: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=got) as error:
        find_scans(tmp_path / name)
    assert "\n" not in str(error.value)

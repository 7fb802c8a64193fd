"""Files are told apart by their first bytes, whatever their names say."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from data_prep import bhsd, ct_ich, folder, rsna
from data_prep.file_kind import stem_and_suffix
from data_prep.preparation import prepare

AFFINE = np.diag([-4.0, -4.0, 15.0, 1.0])
SMALL: dict[str, Any] = {"image_px": 32, "folds": 2}
Report = Callable[[Path], dict[str, Any]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    return raw


def nifti_bytes(head: Any, kind: Any = nib.Nifti1Image) -> bytes:
    return bytes(kind(head[0].transpose(2, 1, 0), AFFINE).to_bytes())


def only_study(raw: Path) -> Any:
    [study] = folder.list_studies(raw, 1, str).studies
    return folder.read_study(raw, study)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ", "a.Nii", "a", "a.dcm", "a.img", "a.b.c"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_nifti_under_any_name(name: str, pack: Callable[[bytes], bytes], raw: Path, head: Any) -> None:
    (raw / name).write_bytes(pack(nifti_bytes(head)))
    assert np.array_equal(only_study(raw).hu, head[0])


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("pack", [False, True])
def test_other_nifti_files(kind: Any, pack: bool, raw: Path, head: Any) -> None:
    name = "a.nii" if kind is nib.Nifti2Image else "a.img"
    nib.save(kind(head[0].transpose(2, 1, 0), AFFINE), raw / name)
    for path in list(raw.iterdir()) if pack else []:
        path.with_name(f"{path.name}.GZ").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert folder.list_studies(raw, 1, str).skipped == []
    assert np.array_equal(only_study(raw).hu, head[0])


def test_half_a_pair_is_named(raw: Path, tmp_path: Path, head: Any, report_of: Report) -> None:
    (raw / "good.nii").write_bytes(nifti_bytes(head))
    for name, lost in (("a", ".img"), ("b", ".hdr")):
        nib.save(nib.Nifti1Pair(head[0].transpose(2, 1, 0), AFFINE), raw / f"{name}.img")
        (raw / f"{name}{lost}").unlink()
    report = report_of(prepare("folder", raw, tmp_path / "out", **SMALL))
    assert report["studies"] == 1
    assert report["skipped"] == [
        {"file": "file 1", "reason": "a header without its .img file"},
        {"file": "file 2", "reason": "not a DICOM file"},
    ]


@pytest.mark.parametrize("implicit", [True, False])
def test_dicom_without_preamble(
    implicit: bool, raw: Path, head: Any, write_dicom: Callable[..., None], tmp_path: Path
) -> None:
    for s in range(8):
        write_dicom(tmp_path / "one", head[0][s] + 1024, [-124, -124, s * 15.0])
        name = raw / f"{s}.nii.gz" if s % 2 else raw / f"{s}"  # no name makes it a NIfTI file
        with pydicom.config.disable_value_validation():
            data = Dataset()
            data.update({element.tag: element for element in pydicom.dcmread(tmp_path / "one")})
            pydicom.dcmwrite(name, data, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert np.array_equal(only_study(raw).hu, head[0])


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_dicom_files_compressed_as_a_whole(
    pack: Callable[[bytes], bytes], rsna_raw: Path, tmp_path: Path, head: Any
) -> None:
    for path in (rsna_raw / "stage_2_train").iterdir():
        path.write_bytes(pack(path.read_bytes()))
    volume = rsna.read_study(rsna_raw, rsna.list_studies(rsna_raw, 1, str).studies[0])
    assert np.array_equal(volume.hu, head[0])


def test_the_layouts_with_masks_take_other_names_too(ct_raw: Path, tmp_path: Path, head: Any) -> None:
    for number, name in ((49, "049"), (50, "50.NII"), (51, "051.nii.GZ"), (52, "052.nii.gz")):
        for kind in ("ct_scans", "masks"):
            path = ct_raw / kind / f"{number:03d}.nii"
            path.rename(path.with_name(name))
    studies = ct_ich.list_studies(ct_raw, 1, str).studies
    assert [study.patient for study in studies] == ["049", "50", "051", "052"]
    assert np.array_equal(ct_ich.read_study(ct_raw, studies[1]).mask > 0, head[2])  # type: ignore[operator]


def test_a_number_in_other_digits_is_a_name(tmp_path: Path, head: Any) -> None:
    for kind in (bhsd.SCANS, bhsd.MASKS):
        (tmp_path / kind).mkdir()
        nib.save(nib.Nifti1Image(head[2].transpose(2, 1, 0).astype(np.int16), AFFINE), tmp_path / kind / "a².nii")
        (tmp_path / kind / "a².nii").rename(tmp_path / kind / "².nii")
    assert len(bhsd.list_studies(tmp_path, 1, str).studies) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("049.nii", ("049", ".nii")), ("049.NII.gz", ("049", ".nii")), ("049", ("049", "")),
        ("a.hdr.GZ", ("a", ".hdr")), ("1.2.dcm", ("1.2.dcm", "")), ("a.b.nii", ("a.b", ".nii")),
    ],
)  # fmt: skip
def test_the_stem_of_a_name(name: str, expected: tuple[str, str]) -> None:
    assert stem_and_suffix(name) == expected

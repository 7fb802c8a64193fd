"""What people give by mistake: one clear line, in the command line and in Python, and nothing is written."""

import gzip
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import hgisam
from hgisam.errors import InputError
from hgisam_scans import batch
from hgisam_scans.batch import segment_one
from hgisam_scans.cli import app
from hgisam_scans.networks import load_networks
from hgisam_scans.outputs import Wanted

Series = Callable[..., list[Path]]
AFFINE = np.diag([-4.0, -4.0, 15.0, 1.0])
COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.fixture(autouse=True)
def dense(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_networks", lambda wanted: [network])
    monkeypatch.setattr(batch, "_weights", lambda folder: [])


def nifti(path: Path, voxels: Any, header: dict[int, bytes] | None = None) -> None:
    """Writes a NIfTI file; `header` overwrites bytes of it."""
    content = bytearray(nib.Nifti1Image(voxels, AFFINE).to_bytes())
    for start, part in (header or {}).items():
        content[start : start + len(part)] = part
    path.write_bytes(bytes(content))


def write_zip(path: Path, head: Any) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("scan.nii", nib.Nifti1Image(head, AFFINE).to_bytes())


BAD: dict[str, tuple[Callable[[Path, Any], object], str]] = {
    "two volumes": (lambda path, head: nifti(path, np.stack([head, head], -1)), "is not one volume"),
    "a picture": (lambda path, head: nifti(path, head[..., 0]), "is not one volume"),
    "colour": (lambda path, head: nifti(path, np.zeros(head.shape, COLOUR)), "colour"),
    "complex": (lambda path, head: nifti(path, head.astype(np.complex64)), "complex"),
    "no slices": (lambda path, head: nifti(path, head, {46: bytes(2)}), "is not one volume"),
    "NaN in the affine": (
        lambda path, head: nifti(path, head, {280: np.float32("nan").tobytes()}), "no usable voxel spacing",
    ),
    "no spacing": (lambda path, head: nifti(path, head, {280: bytes(48)}), "no usable voxel spacing"),
    "sagittal slices": (
        lambda path, head: nifti(path, head, {280: np.array(SAGITTAL, "f4").tobytes()}), "not axial",
    ),
    "half a gzip": (
        lambda path, head: path.write_bytes(gzip.compress(nib.Nifti1Image(head, AFFINE).to_bytes())[:900]), "truncated"
    ),
    "a zip": (write_zip, "not a DICOM file"),
    "text": (lambda path, head: path.write_text("to be continued"), "not a DICOM file"),
    "nothing": (lambda path, head: path.touch(), "not a DICOM file"),
    "a pipe": (lambda path, head: os.mkfifo(path), "no such file or folder"),
    "a broken link": (lambda path, head: path.symlink_to("nowhere"), "no such file or folder"),
}  # fmt: skip
SAGITTAL = [[0, 0, 15, 0], [-4, 0, 0, 0], [0, -4, 0, 0]]


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_head_ct_is_one_line(kind: str, head: Any, tmp_path: Path) -> None:
    write, reason = BAD[kind]
    write(tmp_path / "scan", head[0].transpose(2, 1, 0))
    with pytest.raises(InputError, match=reason) as error:
        segment_one(tmp_path / "scan", tmp_path / "out", Wanted())
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["scan"]


@pytest.mark.parametrize("slices", [1, 2])
def test_few_slices_have_a_mask_of_their_grid(slices: int, head: Any, tmp_path: Path) -> None:
    nifti(tmp_path / "scan.nii", head[0][2 : 2 + slices].transpose(2, 1, 0))
    segment_one(tmp_path / "scan.nii", tmp_path / "out", Wanted())
    mask = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert mask.shape == (64, 64, slices)
    np.testing.assert_array_equal(mask.affine, AFFINE)


@pytest.mark.parametrize(("tags", "reason"), [({"Modality": "MR"}, "not a CT"), ({"PixelData": b""}, "image")])
def test_dicom_files_that_are_no_ct_are_one_line(tags: Any, reason: str, series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw", **tags)
    with pytest.raises(InputError, match=reason):
        segment_one(tmp_path / "raw", tmp_path / "out", Wanted())


def test_an_output_that_cannot_be_made_is_told_before_the_work(
    series: Series, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "raw")
    (tmp_path / "file").touch()
    monkeypatch.setattr(batch, "find_scans", lambda *_: pytest.fail("headers were read"))
    with pytest.raises(InputError, match="a file, which is no earlier result"):
        segment_one(tmp_path / "raw", tmp_path / "file", Wanted())
    with pytest.raises(InputError, match="a file, expected a folder that can be written to"):
        segment_one(tmp_path / "raw", tmp_path / "file" / "out", Wanted())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InputError, match="which cannot be written to"):
        segment_one(tmp_path / "raw", small_disk / "out", Wanted())


def test_a_seg_of_a_nifti_file_is_refused_before_the_work_and_left_out_of_a_batch(head: Any, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    nifti(tmp_path / "raw" / "scan", head[0].transpose(2, 1, 0))
    with pytest.raises(InputError, match="a NIfTI scan, expected a DICOM series to refer to"):
        segment_one(tmp_path / "raw" / "scan", tmp_path / "out", Wanted(seg=True))
    batch.segment_folder(tmp_path / "raw", tmp_path / "out", Wanted(seg=True))
    (result,) = (tmp_path / "out").glob("*/result.json")
    assert "no SEG was written" in result.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": []}, "--checkpoint: got none"),
        ({"checkpoint": "nowhere"}, "checkpoint: got 'nowhere'"),
        ({"threshold": "high"}, "--threshold: got high"),
        ({"threshold": float("nan")}, "--threshold: got nan"),
        ({"threshold": 0}, "--threshold: got 0"),
        ({"method": "bogus"}, "method of phantom-binary: got 'bogus'"),
        ({"method": "hgi_sam_refined"}, "expected a run with refined maps"),
        ({"series": "all"}, "series: got all"),
        ({"series": 7}, "--series: got 7, expected one of series 1"),
    ],
)
def test_a_wrong_argument_is_one_line(options: dict[str, Any], message: str, series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw")
    with pytest.raises(InputError, match=message) as error:
        hgisam.segment(tmp_path / "raw", **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "calibration.json"])
def test_a_damaged_checkpoint_is_one_line(name: str, tmp_path: Path) -> None:
    shipped = Path(hgisam.__file__).parent / "checkpoints" / "phantom-binary"
    for path in shipped.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(InputError) as error:
        load_networks(tmp_path)
    assert "\n" not in str(error.value)


def test_the_command_line_takes_the_options(series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw")
    run = CliRunner().invoke(
        app, ["segment", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--seg", "--no-gate"]
    )
    assert (run.exit_code, run.exception) == (0, None)
    assert (tmp_path / "out" / "seg.dcm").is_file()
    assert "never for diagnosis" in run.output
    for wrong in (["--threshold", "text"], ["--jobs", "0"], ["--gates"]):
        assert CliRunner().invoke(app, ["segment", str(tmp_path / "raw"), *wrong]).exit_code == 2

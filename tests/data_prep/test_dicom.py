"""DICOM files in each transfer syntax that is used for CT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest

from data_prep import rsna
from data_prep.preparation import prepare

SMALL: dict[str, Any] = {"image_px": 32, "field_of_view_mm": 240.0, "folds": 2, "validation_fraction": 0.5}
SYNTAXES = {
    "JPEG lossless, process 14": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG lossless, process 14 selection value 1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS lossless": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000 lossless": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
    "deflated": gdcm.TransferSyntax.DeflatedExplicitVRLittleEndian,
    "implicit": gdcm.TransferSyntax.ImplicitVRLittleEndian,
}


def compress(path: Path, syntax: int) -> None:
    """Rewrites a DICOM file in another transfer syntax, in place."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def first_series(raw: Path) -> Any:
    return rsna.read_study(raw, rsna.list_studies(raw, 1, str).studies[0])


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_same_values_however_they_are_stored(name: str, rsna_raw: Path, tmp_path: Path) -> None:
    plain = first_series(rsna_raw)
    before = {path: path.read_bytes() for path in (rsna_raw / "stage_2_train").iterdir()}
    for path in before:
        compress(path, SYNTAXES[name])
    assert all(path.read_bytes() != content for path, content in before.items())
    found = first_series(rsna_raw)
    assert np.array_equal(found.hu, plain.hu)
    assert found.remarks.skipped == []


@pytest.mark.parametrize("name", ["JPEG lossless, process 14", "JPEG-LS lossless", "JPEG 2000 lossless", "RLE"])
@pytest.mark.parametrize("left", [0.5, 0.9])
def test_a_truncated_image_is_skipped_and_named(
    name: str, left: float, rsna_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    path = sorted((rsna_raw / "stage_2_train").iterdir())[0]
    compress(path, SYNTAXES[name])
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    report = report_of(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL))
    assert [entry["file"] for entry in report["skipped"]] == [f"stage_2_train/{path.name}"]


@pytest.mark.parametrize("syntax", [b"1.2.840.10008.1.2.4.201", b"1.2.840.10008.9.9.9.999"])
def test_an_unsupported_transfer_syntax_is_named(
    syntax: bytes, rsna_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    path = sorted((rsna_raw / "stage_2_train").iterdir())[0]
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
    image["PixelData"].is_undefined_length = True
    image.PixelData = pydicom.encaps.encapsulate([bytes(3000)])
    with pydicom.config.disable_value_validation():
        image.save_as(path, enforce_file_format=False, implicit_vr=False, little_endian=True)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.201", syntax))
    report = report_of(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL))
    assert report["skipped"] == [
        {"file": f"stage_2_train/{path.name}", "reason": "compressed in a way that can't be read here"}
    ]

"""Damaged headers: no damage ends in a traceback, and none costs another study than its own.

A sample; `FUZZ=2000 pytest tests/data_prep/test_fuzz.py` tries that many of each kind.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data_prep import bhsd, folder
from data_prep.study import Settings, prepare_study, read_part

COUNT = int(os.environ.get("FUZZ", "30"))
AFFINE = np.diag([-4.0, -4.0, 15.0, 1.0])


def damaged(content: bytes, header: int, number: int, rng: np.random.Generator) -> bytes:
    """A file cut short, or with changed, inserted or nonsensical bytes in its first `header` bytes."""
    out, at = bytearray(content), int(rng.integers(header))
    match number % 5:
        case 0:
            return content[: int(rng.integers(len(content) if number % 2 else header))]
        case 1:
            out[at] ^= 1 << int(rng.integers(8))
        case 2:
            out[at] = int(rng.integers(256))
        case 3:
            out[at:at] = rng.bytes(int(rng.integers(1, 5)))
        case _:
            for place in rng.integers(header, size=8):
                out[place] = int(rng.choice([0, 255, *b" 0.-e\\"]))
    return bytes(out)


def prepared(reader: Any, raw: Path, parts: Path) -> dict[str, Any]:
    """HU of each study that can be used, by the public id of its patient."""
    found = {}
    for number, study in enumerate(reader.list_studies(raw, 1, str).studies):
        stem = parts / f"{len(list(parts.iterdir()))}{number}"
        prepare_study(raw, study, stem, Settings(reader.NAME, 32, 240.0, labelled=False))
        assert stem.with_suffix(".json").is_file()
        if stem.with_suffix(".npz").is_file():
            found[study.patient] = read_part(stem.with_suffix(".npz"), 32)["hu"]
    return found


def write_dicom_series(raw: Path, head: Any, write_dicom: Callable[..., None]) -> Path:
    for patient in "ab":
        for s in range(8):
            write_dicom(
                raw / f"{patient}{s}", head[0][s] + 1024, [-124, -124, s * 15.0], PatientID=patient,
                StudyInstanceUID=f"{patient}.1", SeriesInstanceUID=f"{patient}.2", ConvolutionKernel="H31s",
                PixelPaddingValue=-2000, SliceThickness=15,
            )  # fmt: skip
    return raw / "b3"


def write_nifti(raw: Path, head: Any, suffix: str) -> Path:
    for patient in "ab":
        nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), AFFINE), raw / f"{patient}{suffix}")
    return raw / f"b{suffix}"


def write_masks(raw: Path, head: Any) -> Path:
    for kind, voxels in ((bhsd.SCANS, head[0]), (bhsd.MASKS, head[2] * 2)):
        (raw / kind).mkdir()
        for patient in "ab":
            nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0).astype(np.int16), AFFINE), raw / kind / f"{patient}.nii")
    return raw / bhsd.MASKS / "b.nii"


@pytest.mark.parametrize("kind", ["dicom", "nifti", "packed", "mask"])
def test_a_damaged_header_costs_at_most_its_study(
    kind: str, tmp_path: Path, head: Any, write_dicom: Callable[..., None]
) -> None:
    raw, parts = tmp_path / "raw", tmp_path / "parts"
    raw.mkdir()
    parts.mkdir()
    reader: Any = bhsd if kind == "mask" else folder
    match kind:
        case "dicom":
            file = write_dicom_series(raw, head, write_dicom)
        case "mask":
            file = write_masks(raw, head)
        case _:
            file = write_nifti(raw, head, ".nii" if kind == "nifti" else ".nii.gz")
    content = file.read_bytes()
    header = len(content) - 2 * head[0][0].size if kind == "dicom" else min(len(content), 352)
    whole = prepared(reader, raw, parts)
    good, other = sorted(whole)
    rng = np.random.default_rng(0)
    lost = 0
    for number in range(COUNT):
        file.write_bytes(damaged(content, header, number, rng))
        found = prepared(reader, raw, parts)
        np.testing.assert_array_equal(found[good], whole[good])
        lost += other not in found or len(found[other]) < 8
    assert 0 < lost < COUNT  # some damage shows, some does not

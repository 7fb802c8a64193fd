"""SEG and SR as another implementation reads them: dcmqi, in C++ on DCMTK and ITK, where it is installed."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from hgisam.data.labels import SUBTYPES
from hgisam_scans.candidates import find_scans
from hgisam_scans.segmentation import segment_series
from hgisam_scans.segmented_scan import SegmentedScan
from hgisam_scans.series_choice import by_study, choose_series

pytestmark = pytest.mark.skipif(not shutil.which("segimage2itkimage"), reason="needs dcmqi: pip install dcmqi")
STORED: dict[str, dict[str, Any]] = {  # a tilted gantry is left out: dcmqi 1.5.7 writes no image of it
    "as usual": {},
    "rows reversed": {"turn": lambda image: image[::-1], "orientation": (1, 0, 0, 0, -1, 0), "flip": (-1, 1)},
    "columns reversed": {"turn": lambda image: image[:, ::-1], "orientation": (-1, 0, 0, 0, 1, 0), "flip": (1, -1)},
    "transposed": {"turn": lambda image: image.T, "orientation": (0, 1, 0, 1, 0, 0)},
}
LABELS = [f"{name} hemorrhage" for name in ("intracranial", *SUBTYPES)]


def segmented(folder: Path, network: Any) -> SegmentedScan:
    network.knows_subtypes = True
    choice = choose_series(by_study(find_scans(folder).candidates)[0])[0]
    return segment_series(choice, [network])


def run(command: Sequence[str | Path]) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("stored", STORED)
def test_a_seg_lies_where_the_nifti_mask_lies(
    stored: str, series: Callable[..., list[Path]], network: Any, tmp_path: Path
) -> None:
    series(tmp_path / "raw", **STORED[stored])
    scan = segmented(tmp_path / "raw", network)
    scan.save_dicom_seg(tmp_path / "seg.dcm")
    scan.save_nifti(tmp_path)
    (tmp_path / "read").mkdir()
    run(
        ["segimage2itkimage", "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path / "read", "-t", "nii"]
    )
    described = json.loads((tmp_path / "read" / "meta.json").read_text())["segmentAttributes"]
    segments = [segment for group in described for segment in group]
    assert [segment["SegmentLabel"] for segment in segments] == LABELS
    colors = [tuple(segment["recommendedDisplayRGBValue"]) for segment in segments]
    assert len(set(colors)) == len(LABELS)
    ours, theirs = (nib.load(path) for path in (tmp_path / "mask.nii.gz", *(tmp_path / "read").glob("1.nii*")))
    mask, other = (np.asarray(image.dataobj) > 0 for image in (ours, theirs))
    to_theirs = np.linalg.inv(theirs.affine) @ ours.affine
    voxels = nib.affines.apply_affine(to_theirs, np.argwhere(mask))
    np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-3)
    assert other[tuple(np.rint(voxels).astype(int).T)].all()
    assert other.sum() == mask.sum() > 0


def test_an_sr_has_the_volumes_and_names_the_segments(
    series: Callable[..., list[Path]], network: Any, tmp_path: Path
) -> None:
    series(tmp_path / "raw")
    scan = segmented(tmp_path / "raw", network)
    scan.save_dicom_sr(tmp_path / "sr.dcm", tmp_path / "seg.dcm")
    run(["tid1500reader", "--inputDICOM", tmp_path / "sr.dcm", "--outputMetadata", tmp_path / "sr.json"])
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    assert [group["ReferencedSegment"] for group in groups] == [*range(1, len(LABELS) + 1)]
    assert [group["TrackingIdentifier"] for group in groups] == LABELS
    volumes = [group["measurementItems"][0] for group in groups]
    assert {volume["quantity"]["CodeMeaning"] for volume in volumes} == {"Volume"}
    expected = [scan.ml, *(scan.ml_by_subtype[name] for name in SUBTYPES)]
    np.testing.assert_allclose([float(volume["value"]) for volume in volumes], expected, atol=1e-3)

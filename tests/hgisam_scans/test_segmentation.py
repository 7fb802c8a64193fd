"""What a segmented scan says: gate, volumes, doubts, and files without names."""

import base64
import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import hgisam
from hgisam.data.labels import MASK_VALUES, SUBTYPES
from hgisam.errors import InputError
from hgisam_scans import outputs
from hgisam_scans.candidates import find_scans
from hgisam_scans.networks import Calibration
from hgisam_scans.outputs import Wanted, write_outputs
from hgisam_scans.segmentation import segment_series
from hgisam_scans.segmented_scan import SegmentedScan
from hgisam_scans.series_choice import by_study, choose_series
from hgisam_scans.volume_interval import Interval
from tests.data_prep.test_multiframe import make_enhanced
from tests.hgisam_scans.test_round_trips import TURNS, UNEVEN

Series = Callable[..., list[Path]]


def segmented(path: Path, network: Any, **options: Any) -> SegmentedScan:
    choice = choose_series(by_study(find_scans(path).candidates)[0])[0]
    return segment_series(choice, [network], **options)


def without_base64(content: bytes) -> bytes:
    """Content with embedded files unpacked: by chance, any short word is in their base64."""
    packed = re.compile(rb"[A-Za-z0-9+/=]{200,}")
    unpacked = (base64.b64decode(blob) for blob in packed.findall(content))
    texts = [gzip.decompress(each) for each in unpacked if each[:2] == b"\x1f\x8b"]
    headers = [text[:352] for text in texts if text[344:347] == b"n+1"]
    return b"".join([packed.sub(b"", content), *headers])


@pytest.fixture
def scan(series: Series, network: Any, tmp_path: Path) -> SegmentedScan:
    series(tmp_path / "Doe_Jane")
    return segmented(tmp_path / "Doe_Jane", network)


def test_a_slice_that_is_not_predicted_to_bleed_has_no_mask(scan: SegmentedScan, network: Any) -> None:
    lesion = scan.mask.any(axis=(1, 2))
    assert 0 < lesion.sum() < len(lesion)
    assert not (lesion & ~scan.bleeds).any()
    network.detection_threshold = 2.0
    chosen = scan.choice
    assert not segment_series(chosen, [network]).mask.any()
    np.testing.assert_array_equal(segment_series(chosen, [network], gate=False).mask, scan.mask)


def test_subtypes_share_the_mask(scan: SegmentedScan, network: Any) -> None:
    network.knows_subtypes = True
    found = segment_series(scan.choice, [network])
    assert found.subtypes is not None
    np.testing.assert_array_equal(found.subtypes, found.mask * MASK_VALUES["subdural"])
    assert found.ml_by_subtype["subdural"] == pytest.approx(found.ml)
    assert sum(found.ml_by_subtype.values()) == pytest.approx(found.ml)


def test_an_ensemble_tells_its_spread(scan: SegmentedScan, network: Any) -> None:
    other = type(network)()
    other.predict = lambda hu, brain, rows: (np.zeros(hu.shape, np.float32), np.zeros(len(hu)))
    found = segment_series(scan.choice, [network, other, network])
    volume = segment_series(scan.choice, [network]).prepared
    ml = volume.mask.sum() * 4 * 15 / 1000  # pixels of 2 mm
    assert found.spread_ml == pytest.approx(np.std([ml, 0, ml], ddof=1), rel=1e-6)
    assert scan.spread_ml is None


def test_a_scan_unlike_the_reference_has_no_volume(scan: SegmentedScan, network: Any) -> None:
    usual = dict.fromkeys(scan.measured, (-1e6, 1e6))
    interval = Interval(
        level=0.9, low_ratio=0.5, high_ratio=2, found=30, missed_ml=1, not_found=20, covered=0.9
    )  # fmt: skip
    network.calibration = Calibration(weights="", cohort="9 heads", reference=usual, intervals={"density": interval})
    found = segment_series(scan.choice, [network])
    unmeasured = {name for name, value in found.measured.items() if not np.isfinite(value)}
    assert found.trusted == (not unmeasured)
    kept = {name: usual[name] for name in usual.keys() - unmeasured}
    network.calibration = network.calibration.model_copy(update={"reference": kept})
    found = segment_series(scan.choice, [network])
    assert found.trusted
    assert found.interval_ml == pytest.approx(((found.ml + 1) / 2 - 1, (found.ml + 1) * 2 - 1))
    assert outputs.result_of(found, "")["ml"] == pytest.approx(found.ml, rel=1e-4)
    network.calibration = network.calibration.model_copy(update={"reference": {"slice_mm": (2.0, 6.0)}})
    found = segment_series(scan.choice, [network])
    assert found.doubts[0].startswith("distance of slices: 15 mm, in data like those of the training 2 to 6 mm")
    result = outputs.result_of(found, "")
    assert (result["status"], result["ml"], result["low_ml"]) == ("not trusted", None, None)


@pytest.mark.parametrize("kind", ["air", "water"])
def test_what_is_no_head_is_not_trusted(kind: str, series: Series, network: Any, tmp_path: Path) -> None:
    value = {"air": -1000, "water": 400}[kind]
    series(tmp_path / "raw", turn=lambda image: np.full_like(image, value))
    found = segmented(tmp_path / "raw", network)
    assert not found.trusted
    assert "no brain was found: is it a head?" in found.doubts
    assert not found.mask.any()


def test_no_output_but_seg_and_sr_names_a_patient_or_a_file(scan: SegmentedScan, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_outputs(scan, out, Wanted(seg=True, sr=True), "", "")
    names = {path.name for path in out.iterdir()}
    text = {"report.html", "result.json", "results.csv", "slices.csv"}
    assert names >= text | {"mask.nii.gz", "map.nii.gz", "seg.dcm", "sr.dcm"}
    for name in names - {"seg.dcm", "sr.dcm"}:
        content = (out / name).read_bytes()
        content = gzip.decompress(content) if name.endswith(".gz") else without_base64(content)
        for private in (b"Doe", b"Jane", b"19600102", b"A77", b"1.2.3.4", str(tmp_path).encode()):
            assert private not in content, name
    assert pydicom.dcmread(out / "seg.dcm").PatientName == "Doe^Jane"
    result = json.loads((out / "result.json").read_text())
    assert set(result["files"]) == names
    assert "never for diagnosis" in result["statement"]
    (row,) = csv.DictReader((out / "results.csv").open())
    assert float(row["ml"]) == pytest.approx(scan.ml, rel=1e-4)
    rows = list(csv.DictReader((out / "slices.csv").open()))
    assert [int(each["mask_pixels"]) for each in rows] == scan.mask.sum(axis=(1, 2)).tolist()
    page = (out / "report.html").read_text()
    assert "http://" not in page.partition("<script type='text/plain'")[0]
    assert page.count("<figure") == len(scan.scores)


@pytest.mark.parametrize("turn", [0, 6], ids=["straight", "transposed and flipped"])
def test_a_seg_refers_frame_by_frame_to_the_original_images(
    turn: int, series: Series, network: Any, tmp_path: Path
) -> None:
    turned, orientation, flip = TURNS[turn]
    files = series(
        tmp_path / "raw", tilt_deg=14.0, positions=UNEVEN, turn=turned, orientation=orientation, flip=flip
    )  # fmt: skip
    network.knows_subtypes = True
    scan = segmented(tmp_path / "raw", network)
    scan.save_dicom_seg(tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert seg.number_of_segments == 1 + len(SUBTYPES)
    assert seg.NumberOfFrames == len(files) * seg.number_of_segments  # empty frames too
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in files]
    pixels = seg.get_pixels_by_source_instance(uids)
    np.testing.assert_array_equal(pixels[..., 0], scan.mask)
    at = 1 + SUBTYPES.index("subdural")
    np.testing.assert_array_equal(pixels[..., at], scan.mask)
    assert not pixels[..., [index for index in range(1, 6) if index != at]].any()
    plain = pydicom.dcmread(tmp_path / "seg.dcm")  # frames against frames, without highdicom
    stored = plain.pixel_array
    for frame, groups in zip(stored, plain.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        expected = scan.mask[uids.index(source)] if number in (1, 1 + at) else np.zeros_like(frame)
        np.testing.assert_array_equal(frame, expected)
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, pydicom.dcmread(files[uids.index(source)]).ImagePositionPatient)
    first = plain.SegmentSequence[0]
    assert first.SegmentLabel == "intracranial hemorrhage"
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.SCT.Hemorrhage.value
    assert "HGI-SAM" in first.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName


def test_a_seg_of_a_multi_frame_file_refers_to_its_frames(
    network: Any, head: Any, write_dicom: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    make_enhanced(
        tmp_path / "raw" / "a", write_dicom, head[0][order], [s * 15.0 for s in order], PatientID="7",
        StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", SOPInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.9",
    )  # fmt: skip
    scan = segmented(tmp_path / "raw", network)
    assert [frame for _, frame in scan.sources] == [order.index(s) for s in range(8)]  # by ascending position
    scan.save_dicom_seg(tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = [order.index(s) + 1 for s in range(8)]
    pixels = seg.get_pixels_by_source_frame("1.2.3.4", frames)
    np.testing.assert_array_equal(pixels[..., 0], scan.mask)
    assert scan.mask.any()


def test_an_sr_has_the_volume_of_each_segment(scan: SegmentedScan, tmp_path: Path) -> None:
    scan.save_dicom_sr(tmp_path / "sr.dcm", tmp_path / "seg.dcm")
    report = highdicom.sr.srread(tmp_path / "sr.dcm")
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    (measurement,) = group.get_measurements(name=codes.SCT.Volume)
    assert measurement.value == pytest.approx(scan.ml, abs=1e-3)
    assert measurement.unit == codes.UCUM.CubicCentimeter
    segment = group.referenced_segment[0].ReferencedSOPSequence[0]
    assert segment.ReferencedSOPInstanceUID == pydicom.dcmread(tmp_path / "seg.dcm").SOPInstanceUID


def test_a_nifti_scan_has_no_images_for_a_seg(head: Any, network: Any, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4, -4, 15, 1])), tmp_path / "scan.nii")
    scan = segmented(tmp_path / "scan.nii", network)
    with pytest.raises(InputError, match="a NIfTI scan, expected a DICOM series"):
        scan.save_dicom_seg(tmp_path / "seg.dcm")


def test_a_seg_of_images_without_valid_uids_is_refused_in_one_line(
    series: Series, network: Any, tmp_path: Path
) -> None:  # fmt: skip
    series(tmp_path / "raw", StudyInstanceUID="ID_11aa")
    scan = segmented(tmp_path / "raw", network)
    with pytest.raises(InputError, match="StudyInstanceUID of an image: got missing or no UID"):
        scan.save_dicom_seg(tmp_path / "seg.dcm")


def test_two_studies_are_refused_and_counted(series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw" / "a")
    series(tmp_path / "raw" / "b", uid="1.9", study="1.8", PatientID="8")
    with pytest.raises(InputError, match="got 2 studies, expected one"):
        hgisam.segment(tmp_path / "raw")

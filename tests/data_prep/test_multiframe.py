"""Enhanced multi-frame CT: each frame has its own position, in shared or per-frame functional groups."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from data_prep import folder
from data_prep.preparation import prepare
from hgisam.data.prepared import open_prepared

Report = Callable[[Path], dict[str, Any]]


def group(**macros: dict[str, Any]) -> Dataset:
    """Functional groups of a frame: name of each macro → its values."""
    out = Dataset()
    for name, values in macros.items():
        item = Dataset()
        for tag, value in values.items():
            setattr(item, tag, value)
        setattr(out, name, Items([item]))
    return out


ORIENTATION = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
MEASURES = {"PixelSpacing": [4.0, 4.0], "SliceThickness": 15.0}
RESCALE = {"RescaleIntercept": -1024, "RescaleSlope": 1}
FRAME_TYPE = {"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]}


def make_enhanced(
    path: Path, write_dicom: Callable[..., None], hu: Any, positions: Sequence[float], *, shared: bool = True,
    intercepts: Sequence[int] | None = None, kernels: Sequence[str] | None = None, **tags: Any,
) -> None:  # fmt: skip
    """Writes an enhanced CT file with frames in the order of `hu` and `positions`."""
    common = {
        "PlaneOrientationSequence": ORIENTATION, "PixelMeasuresSequence": MEASURES,
        "CTImageFrameTypeSequence": FRAME_TYPE,
    }  # fmt: skip
    frames, stored = [], []
    for number, z in enumerate(positions):
        intercept = -1024 if intercepts is None else intercepts[number]
        macros: dict[str, dict[str, Any]] = {
            "PlanePositionSequence": {"ImagePositionPatient": [-124, -124, z]},
            "PixelValueTransformationSequence": RESCALE | {"RescaleIntercept": intercept},
            "FrameContentSequence": {"FrameAcquisitionNumber": 1},
        }
        if kernels is not None:
            macros["CTReconstructionSequence"] = {"ConvolutionKernel": kernels[number]}
        frames.append(group(**macros, **({} if shared else common)))
        stored.append(hu[number] - intercept)
    write_dicom(
        path, np.array(hu[0]), [0, 0, 0], SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", ImagePositionPatient=None,
        ImageOrientationPatient=None, PixelSpacing=None, RescaleIntercept=None, RescaleSlope=None,
        NumberOfFrames=len(positions), PixelData=np.array(stored).astype("<i2").tobytes(),
        SharedFunctionalGroupsSequence=Items([group(**common) if shared else Dataset()]),
        PerFrameFunctionalGroupsSequence=Items(frames), **tags,
    )  # fmt: skip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.mark.parametrize("shared", [True, False])
def test_frames_have_their_own_positions_and_rescale_values(
    shared: bool, raw: Path, head: Any, write_dicom: Callable[..., None]
) -> None:
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    make_enhanced(
        raw / "a", write_dicom, head[0][order], [s * 15.0 for s in order], shared=shared,
        intercepts=[-1024 + 10 * s for s in order],
    )  # fmt: skip
    [study] = folder.list_studies(raw, 1, str).studies
    volume = folder.read_study(raw, study)
    assert np.array_equal(volume.hu, head[0])
    assert np.allclose(volume.positions_mm, np.arange(8) * 15)
    assert volume.slice_mm == 15
    assert volume.source_index.tolist() == np.argsort(order).tolist()


def test_labels_of_frames_count_from_1(raw: Path, tmp_path: Path, head: Any, write_dicom: Callable[..., None]) -> None:
    make_enhanced(raw / "a.dcm", write_dicom, head[0][::-1], [s * 15.0 for s in range(7, -1, -1)])
    bleeds = head[2].any(axis=(1, 2)).astype(int)
    (raw / "labels.csv").write_text("file,slice,any\n" + "".join(f"a.dcm,{8 - s},{bleeds[s]}\n" for s in range(8)))
    slices = open_prepared(prepare("folder", raw, tmp_path / "out", image_px=32, folds=2)).slices
    assert slices["any"].tolist() == bleeds.tolist()


def test_kernels_among_the_frames_are_volumes(raw: Path, head: Any, write_dicom: Callable[..., None]) -> None:
    hu, positions = np.concatenate([head[0], head[0] + 20]), [s * 15.0 for s in range(8)] * 2
    make_enhanced(raw / "a", write_dicom, hu, positions, kernels=["H31s"] * 8 + ["H70h"] * 8)
    first, second = (folder.read_study(raw, study).hu for study in folder.list_studies(raw, 1, str).studies)
    assert np.array_equal(first, head[0])
    assert np.array_equal(second, head[0] + 20)


def test_one_volume_in_several_files(raw: Path, head: Any, write_dicom: Callable[..., None]) -> None:
    for number, part in enumerate((slice(0, 5), slice(5, 8))):
        make_enhanced(raw / f"{number}", write_dicom, head[0][part], [s * 15.0 for s in range(8)][part])
    [study] = folder.list_studies(raw, 1, str).studies
    assert np.array_equal(folder.read_study(raw, study).hu, head[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.__delattr__("PerFrameFunctionalGroupsSequence"), "several frames"),
        (lambda data: data.PerFrameFunctionalGroupsSequence.pop(), "several frames, 7 of 8 with a position"),
        (lambda data: setattr(data, "NumberOfFrames", 10**9), "several frames, 8 of 1000000000 with a position"),
        (lambda data: setattr(data, "PixelData", data.PixelData[:-600]), "short pixel data"),
        (
            lambda data: data.SharedFunctionalGroupsSequence[0].__delattr__("PixelMeasuresSequence"),
            "no PixelSpacing",
        ),
    ],
)
def test_what_is_wrong_with_a_file_of_frames_is_named(
    change: Callable[[Any], None], reason: str, raw: Path, tmp_path: Path, head: Any,
    write_dicom: Callable[..., None], report_of: Report,
) -> None:  # fmt: skip
    make_enhanced(raw / "a", write_dicom, head[0], [s * 15.0 for s in range(8)])
    make_enhanced(
        raw / "b", write_dicom, head[0], [s * 15.0 for s in range(8)], PatientID="p2", StudyInstanceUID="s2",
        SeriesInstanceUID="t2",
    )  # fmt: skip
    data = pydicom.dcmread(raw / "b")
    change(data)
    data.save_as(raw / "b")
    report = report_of(prepare("folder", raw, tmp_path / "out", image_px=32, folds=2))
    assert report["studies"] == 1
    assert report["skipped"][0] == {"file": "file 2", "reason": reason}


def test_one_frame_without_a_position_costs_one_frame(raw: Path, head: Any, write_dicom: Callable[..., None]) -> None:
    make_enhanced(raw / "a", write_dicom, head[0], [s * 15.0 for s in range(8)])
    data = pydicom.dcmread(raw / "a")
    del data.PerFrameFunctionalGroupsSequence[7].PlanePositionSequence
    data.save_as(raw / "a")
    [study] = folder.list_studies(raw, 1, str).studies
    volume = folder.read_study(raw, study)
    assert np.array_equal(volume.hu, head[0][:7])
    assert volume.remarks.skipped == [("a", "no ImagePositionPatient")]

"""CQ500 with BHX: choice of the series, labels of slices, and positions of the boxes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from data_prep import cq500
from data_prep.phantom import write_phantom
from data_prep.phantom.acquisition import VISIBLE_MM2
from data_prep.preparation import prepare
from hgisam.data.labels import MASK_VALUES, SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.localization import boxes_around

SMALL: dict[str, Any] = {"image_px": 32, "field_of_view_mm": 240.0, "folds": 2, "validation_fraction": 0.5}
BOXES = "3_Extrapolation_to_Selected_Series.csv"
COLUMNS = "SOPInstanceUID,data,labelName\n"
BOX = "\"{'x': 1, 'y': 1, 'width': 3, 'height': 2}\""
Report = Callable[[Path], dict[str, Any]]


@pytest.fixture
def raw(tmp_path: Path, head: Any, write_dicom: Callable[..., None]) -> Path:
    """Patient 1 bleeds, with boxes in the thin one of two series; 2 does not bleed; 3 bleeds, without boxes."""
    raw = tmp_path / "cq500"
    boxes = ["SOPInstanceUID,data,labelName,labelType"]
    series = [(1, "CT 5mm", 5), (1, "CT Thin", 1), (2, "CT Bone", 5), (2, "CT Plain", 4), (3, "CT Plain", 5)]
    for number, (patient, name, thickness) in enumerate(series):
        folder = raw / f"CQ500CT{patient} CQ500CT{patient}" / "Unknown Study" / name
        folder.mkdir(parents=True)
        for s in range(8):
            write_dicom(
                folder / f"CT{s:06d}.dcm", head[0][s] + 1024, [-124, -124, s * 15.0], PatientID=f"CQ500CT{patient}",
                StudyInstanceUID=f"1.2.{patient}", SeriesInstanceUID=f"1.2.{patient}.{number}",
                SOPInstanceUID=f"1.2.{patient}.{number}.{s}", SliceThickness=thickness,
            )  # fmt: skip
            if head[2][s].any() and name == "CT Thin":
                (row0, col0, row1, col1) = map(int, boxes_around(head[2][s])[0])
                box = {"x": col0, "y": row0, "width": col1 - col0, "height": row1 - row0}
                boxes.append(f'1.2.1.{number}.{s},"{box}",Subdural,manual')
    boxes.append("1.2.1.1.7,\"{'x': 1, 'y': 1, 'width': 4, 'height': 4.5}\",Chronic,manual")
    boxes.append("9.9.9,\"{'x': 1, 'y': 1, 'width': 4, 'height': 4.5}\",Epidural,manual")
    (raw / BOXES).write_text("\n".join(boxes) + "\n")
    reads = ["name,Category,R1:ICH,R2:ICH,R3:ICH", "CQ500-CT-1,B1,1,1,0", "CQ500-CT-2,B1,0,1,0", "CQ500-CT-3,B1,1,1,1"]
    (raw / "reads.csv").write_text("\n".join([*reads, "CQ500-CT-9,B2,0,0,0"]) + "\n")
    return raw


def test_known_slices_are_kept_and_boxes_lie_on_the_bleed(
    raw: Path, tmp_path: Path, head: Any, report_of: Report
) -> None:
    out = prepare("cq500", raw, tmp_path / "out", **SMALL)
    data, report = open_prepared(out, verify=True), report_of(out)
    bleeding = head[2].any(axis=(1, 2))
    assert data.mask is None
    assert set(data.slices["patient"]) == {"CQ500-CT-1", "CQ500-CT-2"}
    first, second = (data.slices[data.slices["patient"] == f"CQ500-CT-{n}"] for n in (1, 2))
    assert first["any"].tolist() == bleeding[:7].astype(int).tolist()  # the last slice has a chronic bleed only
    assert first["subdural"].tolist() == first["any"].tolist()
    assert not second["any"].any()
    assert len(second) == 8
    assert {name: report[name] for name in ("boxes_of", "series_not_chosen", "slices_chronic_only")} == {
        "boxes_of": BOXES, "series_not_chosen": 2, "slices_chronic_only": 1
    }  # fmt: skip
    assert report["boxes_without_image"] == 1
    assert report["boxes_against_readers"] == 0
    assert report["readings_without_images"] == {"count": 1, "first": ["CQ500-CT-9"]}
    (skipped,) = report["skipped"]
    assert skipped["file"].startswith("CQ500CT3 CQ500CT3/")
    assert skipped["reason"] == "none of its slices has a label"
    assert data.boxes is not None
    assert len(data.boxes) == bleeding.sum()
    for box in data.boxes.itertuples():
        bright = (data.hu[box.row] > 55) & (data.hu[box.row] < 95) & (data.brain[box.row] > 0)
        distance = np.abs(boxes_around(bright) - [box.row0, box.col0, box.row1, box.col1]).max(axis=1)
        assert distance.min() < 1.01  # pixels of 7.5 mm; other components are partial-volume voxels beside bone


@pytest.mark.parametrize("orientation", [[-1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, -1, 0]])
def test_boxes_turn_with_their_images(orientation: list[int], raw: Path, tmp_path: Path) -> None:
    def boxes(folder: Path, out: str) -> Any:
        data = open_prepared(prepare("cq500", folder, tmp_path / out, **SMALL))
        assert data.boxes is not None
        return data.hu[:], data.boxes

    plain_hu, plain = boxes(raw, "plain")
    reorient(raw, orientation)
    reoriented_hu, reoriented = boxes(raw, "reoriented")
    np.testing.assert_array_equal(plain_hu, reoriented_hu)
    np.testing.assert_allclose(plain.iloc[:, 2:], reoriented.iloc[:, 2:], atol=1e-3)


def reorient(raw: Path, orientation: list[int]) -> None:
    """Stores the same heads and their boxes in another orientation of rows and columns."""
    import ast

    import pandas as pd
    import pydicom

    col_step, row_step = np.array(orientation[:3]), np.array(orientation[3:])
    transposed = bool(col_step[1])
    flipped = [bool(step.sum() < 0) for step in (row_step, col_step)]

    for path in raw.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        pixels = image.pixel_array.T if transposed else image.pixel_array
        pixels = pixels[:: -1 if flipped[0] else 1, :: -1 if flipped[1] else 1]
        corner = np.array(image.ImagePositionPatient, float)
        corner -= 63 * 4.0 * (np.minimum(row_step, 0) + np.minimum(col_step, 0))
        image.PixelData, image.ImageOrientationPatient = pixels.astype("<i2").tobytes(), orientation
        image.ImagePositionPatient = corner.tolist()
        image.save_as(path)
    table = pd.read_csv(raw / BOXES)
    for index, text in enumerate(table["data"]):
        box = ast.literal_eval(text)
        if transposed:
            box = {"x": box["y"], "y": box["x"], "width": box["height"], "height": box["width"]}
        if flipped[0]:
            box["y"] = 64 - box["y"] - box["height"]
        if flipped[1]:
            box["x"] = 64 - box["x"] - box["width"]
        table.loc[index, "data"] = str(box)
    table.to_csv(raw / BOXES, index=False)


def test_boxes_of_phantoms_bound_the_masks_of_the_same_phantoms(tmp_path: Path) -> None:
    size: dict[str, Any] = {"image_px": 96, "field_of_view_mm": 220.0, "folds": 2}
    cohorts = {}
    for layout in ("ct-ich", "cq500"):
        raw = write_phantom(tmp_path / layout, layout=layout, patients=4, seed=5, matrix=96)  # type: ignore[arg-type]
        cohorts[layout] = open_prepared(prepare(layout, raw, tmp_path / f"{layout}-set", **size), verify=True)
    masked, boxed = cohorts["ct-ich"], cohorts["cq500"]
    assert boxed.boxes is not None
    assert len(boxed.boxes) > 5
    assert masked.mask is not None
    number = {study: index for index, study in enumerate(sorted(masked.slices["study"].unique()))}
    rows = {(number[r.study], r.slice_index): i for i, r in enumerate(masked.slices.itertuples())}
    covered = []
    for row, boxes in boxed.boxes.groupby("row"):
        slice_row = boxed.slices.iloc[int(str(row))]
        annotated = masked.mask[rows[int(slice_row["study"].rpartition("-")[2]), slice_row["slice_index"]]] > 0
        inside = np.zeros(annotated.shape, bool)
        for box in boxes.itertuples():
            inside[int(box.row0) : int(np.ceil(box.row1)), int(box.col0) : int(np.ceil(box.col1))] = True
        parts = ndimage.label(annotated, np.ones((3, 3)))[0]
        small = np.bincount(parts.ravel()) * (220 / 96) ** 2 < VISIBLE_MM2  # such parts have no box
        visible = annotated & ~small[parts]
        covered.append((visible & inside).sum() / max(visible.sum(), 1))
    assert np.mean(covered) > 0.99
    assert set(boxed.boxes["type"]) <= set(SUBTYPES) < set(MASK_VALUES)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("reads.csv", "name,R1:ICH,R2:ICH,R3:ICH\nCQ500-CT-1,1,1,maybe\n", "R3:ICH: got 'maybe'"),
        ("reads.csv", "name,R1:ICH,R2:ICH,R3:ICH\na,1,1,1\na,1,1,1\n", "a twice"),
        (BOXES, f"{COLUMNS}1.2,x,Subdural\n", "row 2: got 'x'"),
        (BOXES, f"{COLUMNS}1.2,{BOX.replace('3', '0')},Subdural\n", "above 0"),
        (BOXES, f"{COLUMNS}1.2,{BOX},Tumour\n", "Tumour"),
        (BOXES, f"{COLUMNS}1.2,{BOX},Subdural\n", "of these images"),
        (BOXES, "uid\n1.2\n", "expected SOPInstanceUID"),
    ],
)  # fmt: skip
def test_a_wrong_csv_is_an_error(file: str, content: str, message: str, raw: Path, tmp_path: Path) -> None:
    (raw / file).write_text(content)
    with pytest.raises(InputError, match=message):
        prepare("cq500", raw, tmp_path / "out", **SMALL)


def test_a_layout_without_boxes_readings_or_images_is_refused(raw: Path, tmp_path: Path) -> None:
    (raw / BOXES).rename(tmp_path / BOXES)
    with pytest.raises(InputError, match=r"1_Initial_Manual_Labeling\.csv"):
        cq500.tables(raw)
    (raw / "reads.csv").unlink()
    with pytest.raises(InputError, match=r"reads\.csv"):
        cq500.tables(raw)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.dcm file"):
        cq500.images(tmp_path / "empty")


def test_scans_without_a_patient_are_named(raw: Path, tmp_path: Path, report_of: Report) -> None:
    (raw / "CQ500CT3 CQ500CT3").rename(raw / "unknown")
    table = (raw / "reads.csv").read_text()
    (raw / "reads.csv").write_text(table.replace("CQ500-CT-2,B1,0,1,0\n", ""))
    skipped = report_of(prepare("cq500", raw, tmp_path / "out", **SMALL))["skipped"]
    assert [entry["reason"] for entry in skipped] == [
        "its series is in no folder named CQ500CT<n>", "no row of reads.csv for its patient"
    ]  # fmt: skip

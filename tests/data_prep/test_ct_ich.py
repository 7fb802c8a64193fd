"""The CT-ICH layout: every orientation of a NIfTI file, and scans, masks and labels that do not match."""

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from data_prep import ct_ich, nifti
from data_prep.preparation import prepare
from data_prep.volume import UnusableError, Volume
from hgisam.data.labels import MASK_VALUES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2}
Maker = Callable[..., Path]
Report = Callable[[Path], dict[str, Any]]


def scan(raw: Path, number: int = 1) -> Volume:
    return ct_ich.read_study(raw, ct_ich.list_studies(raw, 1, str).studies[number])


def change(path: Path, *, affine: Any = None, data: Any = None) -> None:
    image = nib.load(path)
    voxels = np.asanyarray(image.dataobj).copy() if data is None else data
    nib.save(nib.Nifti1Image(voxels, image.affine if affine is None else affine), path)


def flip_labels(raw: Path) -> None:
    """Reverses the slice numbers, which count along the stored third axis."""
    table = raw / "hemorrhage_diagnosis_raw_ct.csv"
    first, *rest = table.read_text().splitlines()
    cells = [line.split(",") for line in rest]
    table.write_text("\n".join([first, *(",".join([p, str(9 - int(s)), *v]) for p, s, *v in cells)]) + "\n")


AXES = [
    "".join(axis[flip] for axis, flip in zip(pair, flips, strict=False)) + up
    for pair in (("LR", "PA"), ("PA", "LR"))
    for flips in itertools.product((0, 1), (0, 1))
    for up in "SI"
]


@pytest.mark.parametrize("axes", AXES)
def test_any_orientation_gives_the_same_volume(axes: str, tmp_path: Path, write_ct_ich: Maker, head: Any) -> None:
    target = nib.orientations.axcodes2ornt(tuple(axes))

    def store(image: Any) -> Any:
        return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))

    raw = write_ct_ich(tmp_path / "raw", 2, store)
    if axes[2] == "I":
        flip_labels(raw)
    volume = scan(raw)
    hu, _, lesion = head
    assert nib.aff2axcodes(nib.load(raw / "ct_scans" / "050.nii").affine) == tuple(axes)
    assert np.array_equal(volume.hu, hu)
    assert volume.mask is not None
    assert np.array_equal(volume.mask, lesion * MASK_VALUES["unspecified"])
    assert volume.labels[:, 0].tolist() == lesion.any(axis=(1, 2)).tolist()
    assert volume.source_index.tolist() == (list(range(8)) if axes[2] == "S" else list(range(7, -1, -1)))
    assert np.allclose(volume.positions_mm, np.arange(8) * 15)
    assert np.allclose(volume.drift_px, 0, atol=1e-5)
    assert volume.remarks.disagreements == {"label_without_mask": 0, "mask_without_label": 0}


def test_integers_scale_gzip_and_a_fourth_axis(ct_raw: Path, head: Any) -> None:
    path = ct_raw / "ct_scans" / "050.nii"
    image = nib.load(path)
    stored = (np.asanyarray(image.dataobj).astype(np.int16)[..., None] + 1000) // 1
    scaled = nib.Nifti1Image(stored, image.affine)
    scaled.header.set_slope_inter(1.0, -1000.0)
    raw_bytes = bytearray(scaled.to_bytes())
    header = nib.Nifti1Header(bytes(raw_bytes[:348]))
    header["scl_slope"], header["scl_inter"] = 1.0, -1000.0
    raw_bytes[:348] = header.binaryblock
    path.unlink()
    (ct_raw / "ct_scans" / "050.nii.gz").write_bytes(gzip.compress(bytes(raw_bytes)))
    volume = scan(ct_raw)
    assert np.array_equal(volume.hu, head[0])


def test_not_finite_and_below_air(ct_raw: Path) -> None:
    path = ct_raw / "ct_scans" / "050.nii"
    voxels = np.asanyarray(nib.load(path).dataobj).copy()
    voxels[0, 0, 0], voxels[1, 0, 0] = np.nan, -3024
    change(path, data=voxels)
    volume = scan(ct_raw)
    assert volume.hu.min() == -1024
    assert volume.remarks.fixes == {"not_finite": 1}


def test_a_truncated_scan_is_skipped_and_named(ct_raw: Path, tmp_path: Path, report_of: Report) -> None:
    for name, keep in (("049", 100_000), ("050", 100)):
        path = ct_raw / "ct_scans" / f"{name}.nii"
        path.write_bytes(path.read_bytes()[:keep])
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    skipped = report_of(out)["skipped"]
    assert {entry["file"] for entry in skipped} == {"ct_scans/049.nii", "ct_scans/050.nii"}
    assert all(entry["reason"] in ("a truncated or broken file", "no NIfTI file") for entry in skipped)
    assert set(open_prepared(out).slices["patient"]) == {"051", "052"}


def test_a_truncated_gzip_is_skipped(ct_raw: Path, tmp_path: Path, report_of: Report) -> None:
    path = ct_raw / "ct_scans" / "050.nii"
    content = gzip.compress(path.read_bytes())
    path.unlink()
    (ct_raw / "ct_scans" / "050.nii.gz").write_bytes(content[: len(content) // 2])
    skipped = report_of(prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL))["skipped"]
    assert [entry["file"] for entry in skipped] == ["ct_scans/050.nii.gz"]


def test_no_usable_scan_is_an_error(ct_raw: Path, tmp_path: Path) -> None:
    for path in (ct_raw / "ct_scans").iterdir():
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated or broken"):
        prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)


def test_a_mask_of_another_shape_or_place_is_an_error(ct_raw: Path) -> None:
    path = ct_raw / "masks" / "050.nii"
    whole = path.read_bytes()
    change(path, data=np.zeros((64, 64, 7), np.uint8))
    with pytest.raises(InputError, match=r"masks/050\.nii: got shape 64 × 64 × 7"):
        ct_ich.list_studies(ct_raw, 1, str)
    path.write_bytes(whole)
    affine = nib.load(path).affine.copy()
    affine[0, 0] *= -1
    change(path, affine=affine)
    with pytest.raises(InputError, match=r"masks/050\.nii geometry"):
        ct_ich.list_studies(ct_raw, 1, str)


def test_a_mask_without_any_orientation_is_taken_as_stored(ct_raw: Path, head: Any) -> None:
    path = ct_raw / "masks" / "050.nii"
    image = nib.load(path)
    bare = nib.Nifti1Image(np.asanyarray(image.dataobj).copy(), None)
    bare.header.set_zooms(image.header.get_zooms())
    nib.save(bare, path)
    mask = scan(ct_raw).mask
    assert mask is not None
    assert np.array_equal(mask > 0, head[2])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [lines[0], "99,1,0,0,0,0,0,1,0"], "got patient 99, expected patients of ct_scans/: 49, 50"),
        (lambda lines: [*lines, "52,8,1,0,0,0,0,0,0"], "different labels for slice 8 of patient 52"),
        (lambda lines: [*lines, "52,x,1,0,0,0,0,0,0"], "column SliceNumber: got 'x' in row 34"),
        (lambda lines: [lines[0].replace("Subdural", "SDH"), *lines[1:]], "Subdural"),
        (lambda lines: lines[:1], "no rows"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(edit: Any, message: str, ct_raw: Path) -> None:
    table = ct_raw / "hemorrhage_diagnosis_raw_ct.csv"
    table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    with pytest.raises(InputError, match=message):
        ct_ich.list_studies(ct_raw, 1, str)


def from_zero(lines: list[str]) -> list[str]:
    """The lines with the slices of patient 52 counted from 0."""
    cells = [line.split(",") for line in lines]
    return [",".join([p, str(int(s) - 1) if p == "52" else s, *rest]) for p, s, *rest in cells]


@pytest.mark.parametrize(
    ("edit", "skipped", "slices", "counts"),
    [
        (lambda lines: lines[:-1], None, {"049": 8, "052": 7}, {"unlabelled": 1}),
        (lambda lines: [*lines, "52,9,0,0,0,0,0,1,0"], None, {"052": 8}, {"labels_without_image": 1}),
        (lambda lines: [*lines, "99,1,0,0,0,0,0,1,0"], None, {"052": 8}, {"labels_without_image": 1}),
        (
            lambda lines: [line for line in lines if not line.startswith("50,")],
            ("ct_scans/050.nii", "no row of hemorrhage_diagnosis_raw_ct.csv for its patient"), {"050": 0}, {},
        ),
        (
            from_zero,
            ("ct_scans/052.nii", "rows of hemorrhage_diagnosis_raw_ct.csv for slices 0 to 7, but the scan has 1 to 8"),
            {"049": 8, "052": 0}, {},
        ),
    ],
)  # fmt: skip
def test_what_has_no_match_is_left_out_and_named(
    edit: Any, skipped: Any, slices: dict[str, int], counts: dict[str, int], ct_raw: Path, tmp_path: Path,
    report_of: Report,
) -> None:  # fmt: skip
    table = ct_raw / "hemorrhage_diagnosis_raw_ct.csv"
    table.write_text("\n".join(edit(table.read_text().splitlines())) + "\n")
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    report, found = report_of(out), open_prepared(out).slices["patient"]
    assert [tuple(entry.values()) for entry in report["skipped"]] == ([skipped] if skipped else [])
    assert {patient: int((found == patient).sum()) for patient in slices} == slices
    names = ("unlabelled", "labels_without_image")
    assert {name: report[name]["count"] for name in names} == dict.fromkeys(names, 0) | counts
    assert report["disagreements"]["mask_without_label"] == 0


def test_a_scan_without_a_mask_and_two_scans_of_one_patient_are_named(
    ct_raw: Path, tmp_path: Path, report_of: Report
) -> None:
    (ct_raw / "masks" / "049.nii").unlink()  # also where nothing bleeds
    scan = ct_raw / "ct_scans" / "050.nii"
    scan.with_suffix(".nii.gz").write_bytes(gzip.compress(scan.read_bytes()))
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    assert {entry["file"]: entry["reason"] for entry in report_of(out)["skipped"]} == {
        "ct_scans/049.nii": "no mask in masks/", "masks/050.nii": "no scan in ct_scans/",
        "ct_scans/050.nii": "another file has the same id", "ct_scans/050.nii.gz": "another file has the same id",
    }  # fmt: skip
    assert set(open_prepared(out).slices["patient"]) == {"051", "052"}


def test_disagreements_are_counted_and_kept(ct_raw: Path, tmp_path: Path, report_of: Report) -> None:
    mask = ct_raw / "masks" / "050.nii"
    change(mask, data=np.zeros((64, 64, 8), np.uint8))
    voxels = np.zeros((64, 64, 8), np.uint8)
    voxels[30:34, 30:34, 7] = 255
    change(ct_raw / "masks" / "049.nii", data=voxels)
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    slices = open_prepared(out).slices
    bleeding = int(slices.loc[slices["patient"] == "050", "any"].sum())
    assert bleeding > 0
    assert report_of(out)["disagreements"] == {"label_without_mask": bleeding, "mask_without_label": 1}


def test_offset_values_are_not_taken_for_hu(ct_raw: Path, head: Any) -> None:
    assert not nifti.has_hu_offset(head[0])
    assert not nifti.has_hu_offset(np.maximum(head[0], 0))
    path = ct_raw / "ct_scans" / "050.nii"
    change(path, data=np.asanyarray(nib.load(path).dataobj) + 1024)
    with pytest.raises(UnusableError, match="not HU"):
        scan(ct_raw)


def test_one_scan_can_be_evaluated(tmp_path: Path, write_ct_ich: Maker) -> None:
    raw = write_ct_ich(tmp_path / "raw", 1)
    assert set(open_prepared(prepare("ct-ich", raw, tmp_path / "out", **SMALL)).slices["split"]) == {"test"}


def test_coronal_volumes_are_skipped(ct_raw: Path, tmp_path: Path, report_of: Report) -> None:
    path = ct_raw / "ct_scans" / "050.nii"
    for file in (path, ct_raw / "masks" / "050.nii"):
        change(file, affine=nib.load(file).affine[[0, 2, 1, 3]])
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    assert report_of(out)["skipped"] == [{"file": "ct_scans/050.nii", "reason": "the slices are not axial"}]

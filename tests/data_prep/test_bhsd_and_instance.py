"""BHSD and INSTANCE: the meaning of mask values, data sets that share patients, and imported brain masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from data_prep import bhsd, instance
from data_prep.findings import summary
from data_prep.preparation import prepare
from data_prep.volume import UnusableError
from hgisam.data.labels import MASK_VALUES, SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import sha256_of

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 240.0}
PX_MM, SLICE_MM = 4.0, 15.0
Report = Callable[[Path], dict[str, Any]]


def write(raw: Path, scans: str, masks: str, names: list[str], head: Any, values: tuple[int, int]) -> Path:
    """Writes scans; the mask of their lesion has one value in its right half, another in its left."""
    hu, _, lesion = head
    affine = np.diag([-PX_MM, -PX_MM, SLICE_MM, 1.0])  # LPS+ in nibabel's RAS+
    middle = int(np.argwhere(lesion)[:, 2].mean())
    mask = np.where(np.arange(lesion.shape[2]) <= middle, *values) * lesion
    for folder, volume in ((scans, hu), (masks, mask)):
        (raw / folder).mkdir(parents=True)
        for name in names:
            image = nib.Nifti1Image(volume.astype(np.int16).transpose(2, 1, 0), affine)
            nib.save(image, raw / folder / f"{name}.nii.gz")
    return raw


@pytest.fixture
def bhsd_raw(tmp_path: Path, head: Any) -> Path:
    names = ["ID_00000000_ID_cccccccccc", "ID_00000001_ID_dddddddddd"]
    return write(tmp_path / "bhsd", "images", "ground truths", names, head, (3, 5))


@pytest.fixture
def instance_raw(tmp_path: Path, head: Any) -> Path:
    return write(tmp_path / "instance", "data", "label", ["001", "002"], head, (1, 1))


def test_a_value_of_the_mask_is_a_subtype(bhsd_raw: Path, tmp_path: Path, head: Any) -> None:
    volume = bhsd.read_study(bhsd_raw, bhsd.list_studies(bhsd_raw, 1, str).studies[0])
    assert volume.mask is not None
    assert np.array_equal(volume.mask > 0, head[2])
    data = open_prepared(prepare("bhsd", bhsd_raw, tmp_path / "out", **SMALL), verify=True)
    assert set(data.slices["patient"]) == {"ID_00000000", "ID_00000001"}
    assert set(data.slices["study"]) == {"ID_cccccccccc", "ID_dddddddddd"}
    assert set(data.slices["split"]) <= {"val", "test"}
    mask = data.mask[:]  # type: ignore[index]
    assert set(np.unique(mask)) == {0, MASK_VALUES["intraventricular"], MASK_VALUES["subdural"]}
    for name in SUBTYPES:
        annotated = (mask == MASK_VALUES[name]).any(axis=(1, 2))
        assert (data.slices[name].to_numpy()[annotated] == 1).all()
    cols = [np.argwhere(mask == MASK_VALUES[name])[:, 2].mean() for name in ("intraventricular", "subdural")]
    assert cols[0] < cols[1]  # the patient's right stays right
    bleeds = head[2].any(axis=(1, 2)).tolist() * 2
    assert data.slices["any"].tolist() == bleeds


def test_rounded_subtypes_are_told_apart_and_others_named_in_full(bhsd_raw: Path, head: Any) -> None:
    for number, factor in enumerate((0.9999999, 0.98)):
        path = sorted((bhsd_raw / "ground truths").iterdir())[number]
        image = nib.load(path)
        stored = (np.asanyarray(image.dataobj) * np.float32(factor)).astype(np.float32)
        nib.save(nib.Nifti1Image(stored, image.affine), path)
    rounded, wrong = bhsd.list_studies(bhsd_raw, 1, str).studies
    mask = bhsd.read_study(bhsd_raw, rounded).mask
    assert mask is not None
    assert set(np.unique(mask)) == {0, MASK_VALUES["intraventricular"], MASK_VALUES["subdural"]}
    with pytest.raises(UnusableError, match=r"its mask: value (2\.94|4\.9) where only 0, 1, 2, 3, 4, 5 are known"):
        bhsd.read_study(bhsd_raw, wrong)


def test_bleeds_without_annotated_subtype(instance_raw: Path, tmp_path: Path, head: Any) -> None:
    data = open_prepared(prepare("instance", instance_raw, tmp_path / "out", **SMALL), verify=True)
    assert set(np.unique(data.mask[:])) == {0, MASK_VALUES["unspecified"]}  # type: ignore[index]
    bleeds = data.slices["any"] == 1
    assert bleeds.tolist() == head[2].any(axis=(1, 2)).tolist() * 2
    assert (data.slices.loc[bleeds, list(SUBTYPES)] == -1).all(axis=None)
    assert (data.slices.loc[~bleeds, list(SUBTYPES)] == 0).all(axis=None)
    assert data.meta["counts"]["any"] == bleeds.sum()
    assert data.meta["counts"]["subdural"] == 0


def test_a_value_without_a_meaning_is_named_and_the_scan_skipped(
    instance_raw: Path, tmp_path: Path, report_of: Report
) -> None:
    path = instance_raw / "label" / "001.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj) * 7, image.affine), path)
    with pytest.raises(UnusableError, match="its mask: value 7 where only 0, 1 are known"):
        instance.read_study(instance_raw, instance.list_studies(instance_raw, 1, str).studies[0])
    report = report_of(prepare("instance", instance_raw, tmp_path / "out", **SMALL))
    assert [entry["file"] for entry in report["skipped"]] == ["data/001.nii.gz"]


@pytest.mark.parametrize(("kind", "folder"), [("bhsd", "ground truths"), ("instance", "label")])
def test_scans_and_masks_belong_together(
    kind: str, folder: str, tmp_path: Path, request: pytest.FixtureRequest, report_of: Report
) -> None:
    raw: Path = request.getfixturevalue(f"{kind}_raw")
    gone, other = sorted((raw / folder).iterdir())[:2]
    gone.unlink()
    out = prepare(kind, raw, tmp_path / "out", **SMALL)
    assert [entry["reason"] for entry in report_of(out)["skipped"]] == [f"no mask in {folder}/"]
    assert len(set(open_prepared(out).slices["study"])) == 1
    other.rename(gone)
    other.with_name("ID_x_ID_y.nii.gz").write_bytes(gone.read_bytes())
    reasons = [entry["reason"] for entry in report_of(prepare(kind, raw, out, **SMALL))["skipped"]]
    assert [reason.split(" in ")[0] for reason in reasons] == ["no mask", "no scan"]
    gone.unlink()
    with pytest.raises(InputError, match=rf"{folder}/: got patient ID_x_ID_y, expected patients of"):
        prepare(kind, raw, out, **SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        prepare(kind, tmp_path / "empty", tmp_path / "out", **SMALL)


def test_patients_of_another_set_stay_out(bhsd_raw: Path, rsna_raw: Path, tmp_path: Path, report_of: Report) -> None:
    other = prepare("bhsd", bhsd_raw, tmp_path / "bhsd_set", **SMALL)
    out = prepare("rsna", rsna_raw, tmp_path / "out", leave_out=[other], **SMALL)
    assert set(open_prepared(out).slices["patient"]) == {"ID_00000002", "ID_00000003"}
    assert report_of(out)["left_out"] == {"patients": 2, "studies": 2}
    assert "2 patients left out" in summary(out)
    again = prepare("rsna", rsna_raw, out, **SMALL)
    assert len(set(open_prepared(again).slices["patient"])) == 4
    with pytest.raises(InputError, match=r"no dataset\.json"):
        prepare("rsna", rsna_raw, out, leave_out=[tmp_path], **SMALL)


def test_brain_masks_are_imported(ct_raw: Path, tmp_path: Path, head: Any) -> None:
    masks = tmp_path / "brainmask_ero"
    masks.mkdir()
    eroded = ndimage.binary_erosion(head[1], np.ones((1, 5, 5)))
    for path in (ct_raw / "ct_scans").iterdir():
        scan = nib.load(path)
        stored = eroded[:, ::-1].transpose(2, 1, 0).astype(np.uint8)  # stored with reversed rows, as its header says
        affine = scan.affine @ np.diag([1, -1, 1, 1])
        affine[:3, 3] = scan.affine[:3, 3] + scan.affine[:3, 1] * 63
        nib.save(nib.Nifti1Image(stored, affine), masks / f"{path.stem}_mask.nii.gz")
    found = open_prepared(prepare("ct-ich", ct_raw, tmp_path / "found", **SMALL))
    given = open_prepared(prepare("ct-ich", ct_raw, tmp_path / "given", brain_masks=masks, **SMALL))
    inside = given.brain[:8] > 0
    assert 0.5 * found.brain[:8].sum() < inside.sum() < 0.9 * found.brain[:8].sum()
    assert not (inside & (found.brain[:8] == 0)).any()
    area = eroded.sum(axis=(1, 2)) * 16 / 7.5**2
    np.testing.assert_allclose(inside.sum(axis=(1, 2)), area, rtol=0.1, atol=6)
    again = prepare("ct-ich", ct_raw, tmp_path / "given", **SMALL)
    assert sha256_of(again / "slices.zarr") == sha256_of(tmp_path / "found" / "slices.zarr")
    (masks / "050_mask.nii.gz").unlink()
    with pytest.raises(InputError, match=r"none for ct_scans/050\.nii"):
        prepare("ct-ich", ct_raw, tmp_path / "given", brain_masks=masks, **SMALL)
    with pytest.raises(InputError, match="no such folder"):
        prepare("ct-ich", ct_raw, tmp_path / "given", brain_masks=tmp_path / "nowhere", **SMALL)


def test_a_brain_mask_of_another_scan_is_named(ct_raw: Path, tmp_path: Path, report_of: Report) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (ct_raw / "ct_scans").iterdir():
        shape = (64, 64, 7) if path.stem == "050" else (64, 64, 8)
        nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), nib.load(path).affine), masks / path.name)
    report = report_of(prepare("ct-ich", ct_raw, tmp_path / "out", brain_masks=masks, **SMALL))
    assert report["skipped"] == [
        {"file": "ct_scans/050.nii", "reason": "its brain mask: shape 64 × 64 × 7 where its scan has 64 × 64 × 8"}
    ]

"""Preparation end to end: content, determinism, resuming, and refused input."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from distributed import LocalCluster

from data_prep import ct_ich
from data_prep import study as study_module
from data_prep.findings import summary
from data_prep.preparation import prepare
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import sha256_of

SMALL: dict[str, Any] = {"image_px": 32, "field_of_view_mm": 240.0, "folds": 2, "validation_fraction": 0.5}


def test_rsna_becomes_a_prepared_set(rsna_raw: Path, tmp_path: Path, head: Any) -> None:
    prepared = open_prepared(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL), verify=True)
    _, brain, lesion = head
    assert prepared.mask is None
    assert len(prepared.slices) == 32
    assert set(prepared.slices["split"]) == {"train", "val"}
    assert set(prepared.slices["patient"]) == {f"ID_0000000{p}" for p in range(4)}
    first = prepared.slices[prepared.slices["patient"] == "ID_00000000"]
    assert first["position_mm"].tolist() == [15.0 * s for s in range(8)]
    assert (first["slice_mm"] == 15).all()
    assert first["any"].tolist() == lesion.any(axis=(1, 2)).astype(int).tolist()
    assert first["subdural"].tolist() == first["any"].tolist()
    assert not first["epidural"].any()
    # the prepared grid maps back to the native one: 7.5 mm pixels, area averages of 4 mm pixels
    for row in first.index[2:4]:
        at = prepared.slices.loc[row]
        bleeding = (
            prepared.hu[row].astype(float) - prepared.hu[row + 8]
        )  # the next patient has the same head without a bleed
        found = np.array([np.average(axis, weights=bleeding) for axis in np.indices(bleeding.shape)])
        native = [at[f"native_{axis}0"] + found[i] * at[f"native_step_{axis}"] for i, axis in enumerate(("row", "col"))]
        truth = np.argwhere(lesion[int(at["slice_index"])]).mean(axis=0)
        assert np.abs(np.array(native) - truth).max() < 1
    fraction = prepared.brain[:8].sum() * 7.5**2 / (brain.sum() * 4.0**2)
    assert 0.9 < fraction < 1.25


def test_ct_ich_becomes_a_prepared_set(
    ct_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]], head: Any
) -> None:
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    prepared = open_prepared(out, verify=True)
    assert set(prepared.slices["split"]) == {"val", "test"}
    assert set(prepared.slices["patient"]) == {"049", "050", "051", "052"}
    mask, brain = prepared.mask[:], prepared.brain[:] > 0
    assert set(np.unique(mask)) == {0, 6}
    assert (mask.any(axis=(1, 2)) == (prepared.slices["any"] == 1)).all()
    assert mask.sum() / 6 * 7.5**2 == pytest.approx(2 * head[2].sum() * 4.0**2, rel=0.15)
    report = report_of(out)
    assert report["lesion_removed_fraction"] == 0 == (mask[~brain] > 0).sum()
    assert report["disagreements"] == {"label_without_mask": 0, "mask_without_label": 0}
    # both classes on both sides
    assert prepared.slices.groupby("split")["any"].max().tolist() == [1, 1]


def test_a_given_split_and_who_is_absent(rsna_raw: Path, tmp_path: Path) -> None:
    patients = [f"ID_0000000{p}" for p in range(4)]
    file = tmp_path / "splits.csv"
    rows = [f"{patient},{'val' if p == 2 else 'train'},{p}" for p, patient in enumerate([*patients, "another"])]
    file.write_text("\n".join(["patient,split,fold", *rows]))
    prepared = open_prepared(prepare("rsna", rsna_raw, tmp_path / "out", splits=file, **SMALL))
    assert prepared.meta["absent_patients"] == 1
    of_patients = prepared.slices.groupby("patient")[["split", "fold"]].first()
    assert of_patients["split"].to_dict() == {p: "val" if p == patients[2] else "train" for p in patients}
    assert of_patients["fold"].tolist() == [0, 1, 2, 3]
    file.write_text("\n".join(["patient,split,fold", *rows[:4]]).replace("val", "train").replace("train,0", "val,0"))
    again = open_prepared(prepare("rsna", rsna_raw, tmp_path / "out", splits=str(file), **SMALL))
    assert again.meta["absent_patients"] == 0
    assert again.slices.groupby("patient")["split"].first()[patients[0]] == "val"
    with pytest.raises(InputError, match="no such file"):
        prepare("rsna", rsna_raw, tmp_path / "out", splits=tmp_path / "none.csv", **SMALL)


def test_paths_may_be_strings(ct_raw: Path, tmp_path: Path) -> None:
    other = prepare("ct-ich", str(ct_raw), str(tmp_path / "other"), **SMALL)
    assert other == tmp_path / "other"
    out = tmp_path / "out"
    with pytest.raises(InputError, match="at least one"):  # the same patients are excluded
        prepare("ct-ich", str(ct_raw), str(out), leave_out=[str(other)], salt=None, **SMALL)
    with pytest.raises(InputError, match="no such folder"):
        prepare("ct-ich", str(ct_raw), str(out), brain_masks=str(tmp_path / "nowhere"), **SMALL)
    with pytest.raises(InputError, match="no such file"):
        prepare("ct-ich", str(ct_raw), str(out), salt=str(tmp_path / "nowhere"), **SMALL)
    labels, _ = ct_ich.read_labels(str(ct_raw / ct_ich.TABLE))
    studies = ct_ich.list_studies(str(ct_raw), 1, str).studies
    assert len(labels) == len(studies) == len(ct_ich.images(str(ct_raw))) / 2 == 4
    assert ct_ich.read_study(str(ct_raw), studies[0]).hu.shape == (8, 64, 64)


def test_same_bytes_with_one_or_two_workers(ct_raw: Path, tmp_path: Path) -> None:
    one = prepare("ct-ich", ct_raw, tmp_path / "one" / "out", workers=1, **SMALL)
    two = prepare("ct-ich", ct_raw, tmp_path / "two" / "out", workers=2, **SMALL)
    assert sha256_of(one) == sha256_of(two)
    assert "PYTHONHASHSEED" not in os.environ or os.environ["PYTHONHASHSEED"] != "6640"


def test_resumes_after_a_kill(ct_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sha256_of(prepare("ct-ich", ct_raw, tmp_path / "a" / "out", **SMALL))
    out = tmp_path / "b" / "out"
    real, read = study_module.ct_ich.read_study, []

    def stop_at_third(raw: Path, study: Any) -> Any:
        read.append(study.study)
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(raw, study)

    monkeypatch.setattr(study_module.ct_ich, "read_study", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        prepare("ct-ich", ct_raw, out, **SMALL)
    assert not out.exists()
    prepare("ct-ich", ct_raw, out, **SMALL)
    assert len(read) == 5  # only the one that was stopped is read twice
    assert sorted(set(read)) == ["049", "050", "051", "052"]
    assert sha256_of(out) == whole
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_up_to_date_or_replaced_if_something_changed(ct_raw: Path, tmp_path: Path) -> None:
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    inode = (out / "dataset.json").stat().st_ino
    prepare("ct-ich", ct_raw, out, **SMALL)
    assert (out / "dataset.json").stat().st_ino == inode
    prepare("ct-ich", ct_raw, out, **(SMALL | {"image_px": 40}))
    assert open_prepared(out).meta["size_px"] == 40
    before = json.loads((out / "dataset.json").read_text())["hashes"]
    mask = ct_raw / "masks" / "050.nii"
    content = bytearray(mask.read_bytes())
    content[352:] = bytes(len(content) - 352)
    mask.write_bytes(bytes(content))  # of the same size, but newer
    os.utime(mask, ns=(2**62, 2**62))
    prepare("ct-ich", ct_raw, out, **(SMALL | {"image_px": 40}))
    assert json.loads((out / "dataset.json").read_text())["hashes"]["slices.zarr"] != before["slices.zarr"]


def test_never_touches_what_it_did_not_make(ct_raw: Path, tmp_path: Path) -> None:
    for out in (ct_raw, ct_raw / "out", ct_raw.parent):
        with pytest.raises(InputError, match="overlaps"):
            prepare("ct-ich", ct_raw, out, **SMALL)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("three years")
    for out, folder in ((mine, mine), (tmp_path / "new", tmp_path / "new.partial")):
        if folder != mine:
            shutil.copytree(mine, folder)
        with pytest.raises(InputError, match=r"thesis\.txt"):
            prepare("ct-ich", ct_raw, out, **SMALL)
        assert (folder / "thesis.txt").read_text() == "three years"


@pytest.mark.parametrize("kind", ["rsna", "ct-ich"])
def test_wrong_folders_are_named(kind: str, tmp_path: Path, rsna_raw: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        prepare(kind, empty, tmp_path / "out", **SMALL)
    with pytest.raises(InputError, match="no such folder"):
        prepare(kind, tmp_path / "absent", tmp_path / "out", **SMALL)
    if kind == "ct-ich":
        with pytest.raises(InputError, match=r"stage_2_train\.csv.*expected hemorrhage_diagnosis_raw_ct\.csv"):
            prepare(kind, rsna_raw, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"image_px": 2},
        {"field_of_view_mm": 0.0},
        {"validation_fraction": 1.0},
        {"folds": 1},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_arguments_out_of_range_are_refused(change: dict[str, Any], ct_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        prepare("ct-ich", ct_raw, tmp_path / "out", **(SMALL | change))


def test_a_field_too_small_for_the_head_is_reported(
    ct_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    report = report_of(prepare("ct-ich", ct_raw, tmp_path / "out", **(SMALL | {"field_of_view_mm": 100.0})))
    assert report["brain_outside_field"]["count"] == report["head_outside_field"]["count"] == 4


def test_a_full_disk_is_an_oserror(ct_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(study_module, "_write_part", full)
    with pytest.raises(OSError, match="No space left") as caught:
        prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    assert caught.value.errno == 28
    assert not (tmp_path / "out").exists()


def test_without_resume_all_parts_are_made_again(ct_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    work = study_module.READERS["ct-ich"].read_study

    def read(raw: Path, study: Any) -> Any:
        made.append(study.study)
        if len(made) == 3:
            raise KeyboardInterrupt
        return work(raw, study)

    monkeypatch.setattr(study_module.READERS["ct-ich"], "read_study", read)
    with pytest.raises(KeyboardInterrupt):
        prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    prepare("ct-ich", ct_raw, tmp_path / "out", resume=False, **SMALL)
    assert sorted(made[3:]) == ["049", "050", "051", "052"]


def test_only_rsna_has_intercepts_to_keep(ct_raw: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_intercept: got True for ct-ich, expected False, or rsna"):
        prepare("ct-ich", ct_raw, tmp_path / "out", keep_intercept=True, **SMALL)


def test_a_gap_and_a_tilt_are_reported(
    rsna_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    def change(path: Path) -> None:
        image = pydicom.dcmread(path)
        height = float(image.ImagePositionPatient[2])
        if image.PatientID == "ID_00000000" and height == 145:
            path.unlink()  # the fourth of eight
        elif image.PatientID == "ID_00000001":
            image.ImagePositionPatient[1] += 0.25 * height
            with pydicom.config.disable_value_validation():
                image.save_as(path)

    for path in (rsna_raw / "stage_2_train").iterdir():
        change(path)
    out = prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)
    report = report_of(out)
    assert report["uneven_slices"] == {"count": 1, "first": ["ID_aaaaaaaa0"]}
    assert report["tilted"] == {"count": 1, "first": ["ID_aaaaaaaa1"]}
    told = [" ".join(line.split()) for line in summary(out).splitlines()]
    assert "1 studies with gaps between slices look for missing files" in told
    assert "1 studies with tilted slices nothing: they are aligned" in told


def test_a_cluster_makes_the_same(ct_raw: Path, tmp_path: Path) -> None:
    here = prepare("ct-ich", ct_raw, tmp_path / "here" / "out", **SMALL)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = prepare("ct-ich", ct_raw, tmp_path / "there" / "out", workers=cluster.scheduler_address, **SMALL)
    assert sha256_of(here) == sha256_of(there)


def test_a_scheduler_that_does_not_answer_is_an_error(
    ct_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("data_prep.parallel.CONNECT_S", 0.5)
        for address in ("tcp://127.0.0.1:9", "nonsense://x"):
            with pytest.raises(InputError, match="Dask scheduler: got"):
                prepare("ct-ich", ct_raw, tmp_path / "out", workers=address, **SMALL)
    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(InputError, match="got no worker"),
    ):
        prepare("ct-ich", ct_raw, tmp_path / "out", workers=cluster.scheduler_address, **SMALL)

"""Reuse of recorded trainings: only with the same settings and the same slices."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam import pipeline
from hgisam.cli import app
from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_tensors
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.recorded.reuse import RECORDED, recorded_training, reuse_note, train_or_reuse, trainings_of
from hgisam_book.recorded.runs import add_trainings, read_runs, record_run
from hgisam_book.studies import baselines, classifiers
from hgisam_book.studies.classifiers import train_classifiers
from hgisam_book.studies.refinement import refine_step
from tests.conftest import TINY, make_prepared

SHORT = [*TINY, "study.seeds=[1]", "study.trainings.binary={task: binary}", "study.trainings.subtype={task: subtype}"]


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", SHORT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
    """A finished run with the classifiers of the study."""
    runs = tmp_path_factory.mktemp("runs")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("val", "test"))):
        make_prepared(runs / "smoke" / "prepared" / name, patients=12, splits=splits)
    for step in (pipeline.train_step, pipeline.map_step, pipeline.evaluate_step):
        step(profile, runs)
    train_classifiers(profile, runs)
    return runs / "smoke"


@pytest.fixture(scope="module")
def records(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one recorded run that has both classifiers."""
    folder = tmp_path_factory.mktemp("recorded")
    record_run(run, folder / "first", with_checkpoint=True, trainings=["classifiers/*-1"])
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A new run on the same slices."""
    make_prepared(tmp_path / "runs" / "smoke" / "prepared" / "rsna", patients=12)
    return tmp_path / "runs"


def no_training(*_: object) -> None:
    raise AssertionError("trained")


def reused(trained: dict[tuple[str, int], Path]) -> list[str]:
    return [task for (task, _), folder in trained.items() if (folder / RECORDED).is_file()]


def test_a_recorded_training_is_reused(
    run: Path, records: Path, runs: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "launch", no_training)
    trained = train_classifiers(profile, runs, records)
    assert reused(trained) == ["binary", "subtype"]
    for folder in trained.values():
        first = run / "classifiers" / folder.name
        then, now = (load_tensors(path / "model.safetensors") for path in (first, folder))
        for name, weights in then.items():
            np.testing.assert_allclose(now[name].float(), weights, rtol=1e-3, atol=1e-6)
        tables = [pd.read_parquet(path / "predictions.parquet") for path in (first, folder)]
        pd.testing.assert_frame_equal(*tables, atol=0.01)
        assert (folder / "train.csv").read_text() == (first / "train.csv").read_text()
        manifest = read_manifest(folder)
        assert manifest["inputs"]["recorded"] == manifest["outputs"]["model.safetensors"]
        record = read_json(folder / RECORDED)
        assert record["run"] == "first"
        assert record["manifest"]["duration_s"] == read_manifest(first)["duration_s"]
        assert record["then"] == read_json(first / "model.json")["validation"]["val_auroc"]
    note = reuse_note(trained.values())
    assert note.startswith("**2 of 2 networks were reused from a recorded run.**")
    assert "`first`" in note
    assert "`val_auroc`" in note
    assert reuse_note([run / "classifiers" / "binary-1"]) == "None of 1 networks was reused from a recorded run."
    assert trainings_of(runs / "smoke") == sorted(trained.values())
    again = train_classifiers(profile, runs, records)
    assert again == trained


def test_other_settings_are_trained(records: Path, runs: Path, profile: Profile) -> None:
    other = load_profile("smoke", [*SHORT, "study.trainings.subtype={task: subtype, train.weight_decay: 0.04}"])
    trained = train_classifiers(other, runs, records)
    assert reused(trained) == ["binary"]
    assert reuse_note(trained.values()).startswith("**1 of 2 networks were reused from a recorded run.**")
    for change in ("seed=9", "data.field_of_view_mm=190", "windows.0.width_hu=90", "compute.precision=bf16-mixed"):
        changed = load_profile("smoke", [*SHORT, change])
        assert recorded_training(changed, records, "classifiers/binary-1") is None
    moved = load_profile("smoke", [*SHORT, "seed=1", "compute.jobs=7", "name=mine"])
    assert recorded_training(moved, records, "classifiers/binary-1") == records / "first" / "classifiers" / "binary-1"


@pytest.mark.parametrize("difference", ["patients", "pixels"])
def test_other_slices_are_trained(records: Path, tmp_path: Path, profile: Profile, difference: str) -> None:
    folder = tmp_path / "smoke" / "prepared" / "rsna"
    other = {"patients": {"patients": 16}, "pixels": {"patients": 12, "brain_hu": 33}}  # as from another scanner
    make_prepared(folder, **other[difference])
    trained = train_classifiers(profile, tmp_path, records)
    assert reused(trained) == []
    assert all("epoch" in pd.read_csv(path / "train.csv") for path in trained.values())


def test_a_network_with_another_validation_metric_is_trained(
    records: Path, runs: Path, tmp_path: Path, profile: Profile
) -> None:
    modified = tmp_path / "modified"
    shutil.copytree(records, modified)
    path = modified / "first" / "classifiers" / "binary-1" / "model.json"
    about = read_json(path)
    about["validation"]["val_auroc"] -= 0.02
    write_json(path, about)
    path = modified / "first" / "classifiers" / "subtype-1" / "model.json"
    about = read_json(path)
    del about["validation"]["val_auroc"]
    write_json(path, about)
    assert reused(train_classifiers(profile, runs, modified)) == []


def test_the_own_training_of_the_run_is_reused_too(records: Path, runs: Path) -> None:
    """Also where the study takes it for its binary classifier."""
    own = load_profile("smoke", [*SHORT, "study.seeds=[2304]"])
    assert own.seed == 2304
    assert recorded_training(own, records, "train") == records / "first" / "train"
    trained = train_classifiers(own, runs, records)
    assert trained["binary", 2304] == train_or_reuse(Run(own, runs), "train", records)
    assert trained["binary", 2304].name == "train"
    assert reused(trained) == ["binary"]


def test_the_training_on_pseudo_masks_is_recorded_and_reused(
    run: Path, tmp_path: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    refine_step(profile, run.parent)
    records = tmp_path / "records"
    record_run(run, records / "first", with_checkpoint=True, trainings=["refined/*"])
    shutil.copytree(run / "prepared", tmp_path / "smoke" / "prepared")
    monkeypatch.setattr(pipeline, "launch", no_training)
    train_or_reuse(Run(profile, tmp_path), "train", records)
    pipeline.map_step(profile, tmp_path)
    refine_step(profile, tmp_path, records)
    trained = trainings_of(tmp_path / "smoke")
    assert [folder.relative_to(tmp_path / "smoke").as_posix() for folder in trained] == [
        "refined/self_trained",
        "train",
    ]
    assert reuse_note(trained).startswith("**2 of 2 networks")


def test_the_trainings_are_found_while_another_chapter_renames_its_folders(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "boxes" / "prepared.partial").mkdir(parents=True)
    listed = os.scandir

    def renamed_meanwhile(path: str | Path) -> object:
        if str(path).endswith("prepared.partial"):
            raise FileNotFoundError(path)
        return listed(path)

    expected = trainings_of(run)
    monkeypatch.setattr(os, "scandir", renamed_meanwhile)
    assert expected
    assert trainings_of(run) == expected


def test_a_record_of_reused_networks_has_the_manifests_of_their_training(
    run: Path, records: Path, tmp_path: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run / "prepared", tmp_path / "smoke" / "prepared")
    monkeypatch.setattr(pipeline, "launch", no_training)
    train_or_reuse(Run(profile, tmp_path), "train", records)
    pipeline.map_step(profile, tmp_path)
    pipeline.evaluate_step(profile, tmp_path)
    train_classifiers(profile, tmp_path, records)
    for name, text in (("04_training", "**1 of 1 networks were reused from a recorded run.**"), ("05_maps", "maps")):
        cells = [{"outputs": [{"data": {"text/markdown": [text]}}]}]
        notebook = {"cells": cells, "metadata": {"papermill": {"duration": 9.0}}}
        (tmp_path / "smoke" / "notebooks").mkdir(exist_ok=True)
        write_json(tmp_path / "smoke" / "notebooks" / f"{name}.ipynb", notebook)
    record_run(tmp_path / "smoke", tmp_path / "records" / "second", with_checkpoint=True, trainings=["classifiers/*"])
    for step in ("train", "classifiers/binary-1", "classifiers/subtype-1"):
        trained, recorded = read_manifest(run / step), read_manifest(tmp_path / "records" / "second" / step)
        assert not (tmp_path / "records" / "second" / step / RECORDED).exists()
        for key in ("duration_s", "git_revision", "hardware", "inputs", "outputs"):
            assert recorded[key] == trained[key]
        for name, digest in recorded["exported"].items():
            assert sha256_of(tmp_path / "records" / "second" / step / name) == digest
    record = read_runs(tmp_path / "records")["second"].record
    assert record["durations_s"]["train"] == read_manifest(run / "train")["duration_s"]
    assert record["chapters_s"] == {"05_maps": 9.0}


def test_without_records_all_are_trained_and_a_wrong_folder_is_an_error(
    records: Path, runs: Path, tmp_path: Path, profile: Profile
) -> None:
    assert reused(train_classifiers(profile, runs)) == []
    with pytest.raises(InputError, match="take_from: got nowhere"):
        train_classifiers(profile, runs, Path("nowhere"))
    modified = tmp_path / "modified"
    shutil.copytree(records, modified)
    for content in ("half", "[]", '{"profile": {}}', '{"profile": {}, "data": {}, "validation": {}}', '{"profile": 1}'):
        (modified / "first" / "classifiers" / "binary-1" / "model.json").write_text(content)
        with pytest.raises(InputError, match=r"model\.json"):
            recorded_training(profile, modified, "classifiers/binary-1")


def test_the_laptop_profile_finds_the_recorded_networks_of_the_book(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A changed profile makes `make book` train for an hour, until the run is recorded again."""
    trained: dict[str, Profile] = {}

    def note(trainings: dict[str, Profile], *_: object) -> list[Path]:
        trained.update(trainings)
        return [Path(step) for step in trainings]

    for module in (classifiers, baselines):
        monkeypatch.setattr(module, "train_all", note)
    laptop, data = load_profile("laptop"), open_prepared(make_prepared(tmp_path / "ct-ich", patients=40))
    folds = data.slices["patient"].str[1:].astype(int) // 4 % laptop.data.folds  # bleeding patients in each
    data = replace(data, slices=data.slices.assign(fold=folds))
    train_classifiers(laptop, tmp_path)
    for name in baselines.BASELINES:
        baselines.train_folds(Run(laptop, tmp_path), name, data)
    assert len(trained) == 6 + 3 * laptop.data.folds
    records = Path(__file__).parents[3] / "book" / "recorded"
    for step, profile in trained.items():
        assert recorded_training(profile, records, step) == records / "laptop-2-cores" / step


def test_only_trainings_of_this_run_are_recorded(run: Path, records: Path, runs: Path, profile: Profile) -> None:
    assert set(read_runs(records)["first"].manifests) == {"train", "maps", "evaluate"}
    out = runs.parent / "out"
    for pattern in ("classifiers/nothing", "train", "classifiers/../train", "classifiers", "", "/"):
        with pytest.raises(InputError, match="expected the name of finished trainings"):
            record_run(run, out, trainings=[pattern])
    copy = Path(shutil.copytree(run, runs.parent / "copy", ignore=shutil.ignore_patterns("prepared")))
    path = copy / "classifiers" / "binary-1" / "manifest.json"
    manifest = read_json(path)
    write_json(path, {**manifest, "inputs": {"prepared/rsna": "another"}})
    with pytest.raises(InputError, match="trained on other data"):
        record_run(copy, out, trainings=["classifiers/*-1"])
    write_json(path, manifest)
    write_json(path.with_name(RECORDED), {})
    with pytest.raises(InputError, match=r"recorded\.json.*the record of a reused training"):
        record_run(copy, out, trainings=["classifiers/*-1"])
    assert not out.exists()


def test_trainings_are_added_to_a_record(run: Path, runs: Path, profile: Profile, tmp_path: Path) -> None:
    record = record_run(run, tmp_path / "records" / "first", with_checkpoint=True)
    before = read_runs(record.parent)["first"]
    assert recorded_training(profile.variant("binary"), record.parent, "classifiers/binary-1") is None
    copy = Path(shutil.copytree(run, tmp_path / "unfinished"))
    for step in ("maps", "evaluate"):
        shutil.rmtree(copy / step)
    add_trainings(copy, record, ["classifiers/binary-*"])
    after = read_runs(record.parent)["first"]  # every hash fits
    added = after.record["files"].keys() - before.record["files"].keys()
    assert {Path(name).parent.as_posix() for name in added} == {"classifiers/binary-1"}
    assert {**after.record, "files": before.record["files"]} == before.record
    assert after.summary == before.summary
    variant = Profile.model_validate(read_json(run / "classifiers/binary-1/model.json")["profile"])
    assert recorded_training(variant, record.parent, "classifiers/binary-1") == record / "classifiers/binary-1"


def test_trainings_of_another_cohort_are_not_added(run: Path, tmp_path: Path) -> None:
    record = record_run(run, tmp_path / "records" / "first", with_checkpoint=True)
    files = read_json(record / "record.json")["files"]
    copy = Path(shutil.copytree(run, tmp_path / "other"))
    path = copy / "classifiers" / "binary-1" / "manifest.json"
    manifest = read_json(path)
    write_json(
        path, {**manifest, "profile": {**manifest["profile"], "data": {**manifest["profile"]["data"], "image_px": 96}}}
    )
    with pytest.raises(InputError, match="another data than the record"):
        add_trainings(copy, record, ["classifiers/binary-1"])
    with pytest.raises(InputError, match="got no pattern"):
        add_trainings(run, record, [])
    with pytest.raises(InputError, match="expected the name of finished trainings"):
        add_trainings(run, record, ["classifiers/nothing"])
    with pytest.raises(InputError, match=r"record\.json"):
        add_trainings(run, tmp_path / "nowhere", ["classifiers/binary-1"])
    assert read_json(record / "record.json")["files"] == files
    with pytest.raises(InputError, match="--trainings alone"):
        app(["record", str(run), str(record), "--add", "--note", "More."], standalone_mode=False)
    app(["record", str(run), str(record), "--add", "--trainings", "classifiers/*-1"], standalone_mode=False)
    assert len(read_json(record / "record.json")["files"]) > len(files)


def test_a_study_with_phantoms_of_its_own_belongs_to_no_cohort(run: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(run, tmp_path / "own"))
    step = own / "other_domains" / "lung" / "network"
    step.parent.mkdir(parents=True)
    shutil.move(own / "classifiers" / "binary-1", step)
    manifest = read_json(step / "manifest.json")
    profile = {**manifest["profile"], "data": {**manifest["profile"]["data"], "image_px": 96}}
    write_json(step / "manifest.json", {**manifest, "profile": profile, "inputs": {"prepared/train": "0"}})
    record = record_run(own, tmp_path / "records" / "first", trainings=["other_domains/lung/network"])
    assert (record / "other_domains/lung/network/model.safetensors").is_file()
    other = record_run(run, tmp_path / "records" / "second", with_checkpoint=True)
    add_trainings(own, other, ["other_domains/*/network"])
    assert (other / "other_domains/lung/network/model.safetensors").is_file()

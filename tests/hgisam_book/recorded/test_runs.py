"""Recorded runs: reading returns what was packed, and only unchanged files of one run are accepted."""

import json
import logging
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam import pipeline
from hgisam.cli import app
from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.inference import extraction
from hgisam.inference.external import evaluate_external, map_external
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_pretrained
from hgisam.runs.files import read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.manifest import read_manifest
from hgisam_book.recorded import runs
from hgisam_book.recorded.export import export_checkpoint
from hgisam_book.recorded.runs import read_runs, record_run
from tests.conftest import TINY, make_prepared

FILES = {
    "record.json", "summary.json", "train/train.csv", "train/manifest.json", "maps/manifest.json",
    "evaluate/manifest.json", "evaluate/thresholds.json", "evaluate/metrics.parquet",
}  # fmt: skip
WEIGHTS = {"train/model.safetensors", "train/model.json", "train/README.md"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose training loaded weights from a folder with a private name."""
    runs = tmp_path_factory.mktemp("home-of-alice")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("val", "test"))):
        make_prepared(runs / "smoke" / "prepared" / name, patients=12, splits=splits)
    pipeline.train_step(load_profile("smoke", TINY), runs)
    profile = load_profile("smoke", [*TINY, f"train.checkpoint={shutil.move(runs / 'smoke/train', runs / 'given')}"])
    for step in (pipeline.train_step, pipeline.map_step, pipeline.evaluate_step):
        step(profile, runs)
    return runs / "smoke"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be modified."""
    return Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("prepared")))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_reading_returns_what_was_packed(run: Path, tmp_path: Path) -> None:
    notebook = run / "notebooks" / "04_training.ipynb"
    notebook.parent.mkdir(exist_ok=True)
    write_json(notebook, {"cells": [], "metadata": {"papermill": {"duration": 61.23}}})
    record_run(run, tmp_path / "first", note="A first try.")
    runs = read_runs(tmp_path)
    assert list(runs) == ["first"]
    found = runs["first"]
    assert found.record["note"] == "A first try."
    assert (found.record["name"], found.record["profile"], found.record["tier"]) == ("first", "smoke", "laptop")
    durations = {step: read_manifest(run / step)["duration_s"] for step in ("train", "maps", "evaluate")}
    assert found.record["durations_s"] == durations
    assert found.record["chapters_s"] == {"04_training": 61.2}
    assert found.record["hardware"].endswith("GPU: none")
    assert found.summary == read_json(run / "summary.json")
    assert found.thresholds == read_json(run / "evaluate" / "thresholds.json")
    assert found.manifests["maps"]["outputs"] == read_manifest(run / "maps")["outputs"]
    pd.testing.assert_frame_equal(found.history, pd.read_csv(run / "train" / "train.csv"))
    assert files_of(tmp_path / "first") == FILES
    assert set(found.record["files"]) == FILES - {"record.json"}
    assert read_runs(tmp_path / "nowhere") == {}


def test_all_results_are_recorded_if_the_run_has_them(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy / "evaluate", copy / "results")
    summary = read_json(copy / "results" / "summary.json") | {"studies": {}}
    write_json(copy / "results" / "summary.json", summary)
    manifest = read_manifest(copy / "results")
    manifest["outputs"]["summary.json"] = sha256_of(copy / "results" / "summary.json")
    write_json(copy / "results" / "manifest.json", manifest)
    record_run(copy, tmp_path / "records" / "whole")
    found = read_runs(tmp_path / "records")["whole"]
    assert found.summary == summary
    assert set(found.manifests) == {"train", "maps", "evaluate", "results"}
    manifest["inputs"]["maps"] = "0"
    write_json(copy / "results" / "manifest.json", manifest)
    with pytest.raises(InputError, match="read another maps"):
        record_run(copy, tmp_path / "records" / "mixed")


def test_patients_are_numbers(run: Path, tmp_path: Path) -> None:
    out = record_run(run, tmp_path / "first", with_checkpoint=True)
    metrics, full = read_runs(tmp_path)["first"].metrics, pd.read_parquet(run / "evaluate" / "metrics.parquet")
    assert metrics is not None
    assert sorted(metrics["patient"].unique()) == list(range(full["patient"].nunique()))
    np.testing.assert_array_equal(metrics["value"], full["value"])
    by_patient = [table.groupby("patient", sort=False)["value"].mean().to_numpy() for table in (metrics, full)]
    np.testing.assert_array_equal(*by_patient)
    slices = open_prepared(run / "prepared" / "ct-ich").slices
    for path in out.rglob("*.json"):
        text = path.read_text()
        assert not any(f'"{name}"' in text for column in ("patient", "study") for name in slices[column]), path
    assert not list(out.rglob("predictions*"))


def test_records_reveal_no_path_of_this_machine(run: Path, tmp_path: Path) -> None:
    assert "alice" in (run / "train" / "manifest.json").read_text()
    out = record_run(run, tmp_path / "first", with_checkpoint=True)
    for path in out.rglob("*"):
        for secret in ("alice", str(tmp_path), platform.node(), str(Path.home()) + "/"):
            assert path.is_dir() or secret.encode() not in path.read_bytes(), (path, secret)


def test_a_small_checkpoint_is_recorded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = record_run(run, tmp_path / "first", with_checkpoint=True)
    assert files_of(out) == FILES | WEIGHTS
    assert load_pretrained(str(out / "train")).profile.name == "smoke"
    monkeypatch.setattr(runs, "MAX_CHECKPOINT_KB", 1)
    with pytest.raises(InputError, match="at most 1 kB"):
        record_run(run, tmp_path / "second", with_checkpoint=True)
    assert list(read_runs(tmp_path)) == ["first"]


def test_large_metrics_are_not_recorded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runs, "MAX_METRICS_KB", 1)
    with caplog.at_level(logging.INFO):
        out = record_run(run, tmp_path / "first")
    assert files_of(out) == FILES - {"evaluate/metrics.parquet"}
    assert read_runs(tmp_path)["first"].metrics is None
    assert "metrics.parquet is not recorded: more than 1 kB" in caplog.messages


def test_the_gpu_tier_requires_that_the_gpu_was_used(copy: Path, tmp_path: Path) -> None:
    manifest = read_manifest(copy / "train")
    manifest["hardware"]["gpu"] = ["a card"]
    write_json(copy / "train" / "manifest.json", manifest)
    record_run(copy, tmp_path / "runs" / "cpu")
    manifest["profile"]["compute"]["accelerator"] = "auto"
    write_json(copy / "train" / "manifest.json", manifest)
    record_run(copy, tmp_path / "runs" / "gpu")
    found = {name: run.record for name, run in read_runs(tmp_path / "runs").items()}
    assert {name: record["tier"] for name, record in found.items()} == {"cpu": "laptop", "gpu": "GPU"}
    assert found["gpu"]["hardware"].count("GPU: ") == 2  # two machines


@pytest.mark.parametrize("name", sorted(FILES - {"record.json"}))
def test_a_changed_or_missing_file_is_named(run: Path, tmp_path: Path, name: str) -> None:
    path = record_run(run, tmp_path / "first") / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=f"{name}: got other content"):
        read_runs(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: got no such file"):
        read_runs(tmp_path)


def test_only_a_complete_and_consistent_run_is_recorded(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = (copy / "evaluate" / "summary.json").read_text()
    (copy / "evaluate" / "summary.json").write_text(summary.replace("1", "9", 1))
    with pytest.raises(InputError, match=r"summary\.json: got missing or changed"):
        record_run(copy, out)
    manifest = read_manifest(copy / "maps")
    write_json(copy / "maps" / "manifest.json", manifest | {"inputs": manifest["inputs"] | {"train": "0" * 64}})
    with pytest.raises(InputError, match="a step maps that read another train"):
        record_run(copy, out)
    shutil.rmtree(copy / "maps")
    with pytest.raises(InputError, match="no finished maps"):
        record_run(copy, out)
    assert not out.exists()
    (tmp_path / "run" / "letter").write_text("mine")
    with pytest.raises(InputError, match="other content"):
        record_run(copy, copy)


def test_only_an_earlier_record_is_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record_run(run, out)
    record_run(run, out, note="two\nlines")
    assert read_json(out / "record.json")["note"] == "two lines"
    (out / "train" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other content"):
        record_run(run, out)
    assert (out / "train" / "thesis.txt").is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "record.json").write_text("{}")
    with pytest.raises(InputError, match="other content"):
        record_run(run, tmp_path / "mine")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"profile": []}'])
@pytest.mark.parametrize("step", ["train", "maps", "evaluate"])
def test_an_invalid_manifest_is_one_line(copy: Path, tmp_path: Path, step: str, content: str) -> None:
    (copy / step / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="expected the manifest of a finished step"):
        record_run(copy, tmp_path / "out")
    with pytest.raises(InputError, match="expected the manifest of a finished step"):
        evaluate_external(copy, tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{}", '{"dataset": "x", "methods": {"hgi_sam": {"threshold": "0.1"}}}'])
def test_invalid_thresholds_are_one_line(run: Path, copy: Path, tmp_path: Path, content: str) -> None:
    (copy / "evaluate" / "thresholds.json").write_text(content)
    with pytest.raises(InputError, match="expected the thresholds of a run"):
        evaluate_external(copy, run / "prepared" / "ct-ich", tmp_path / "out")


def test_thresholds_of_another_training_are_refused(run: Path, copy: Path, tmp_path: Path) -> None:
    manifest = read_manifest(copy / "train")
    manifest["outputs"]["model.safetensors"] = "another"
    write_json(copy / "train" / "manifest.json", manifest)
    with pytest.raises(InputError, match="a step maps that read another train"):
        evaluate_external(copy, run / "prepared" / "ct-ich", tmp_path / "out")


@pytest.mark.parametrize(("step", "before"), [("maps", "train"), ("evaluate", "maps")])
def test_a_step_without_its_inputs_is_refused(copy: Path, tmp_path: Path, step: str, before: str) -> None:
    manifest = read_manifest(copy / step)
    del manifest["inputs"][before]
    write_json(copy / step / "manifest.json", manifest)
    with pytest.raises(InputError, match=f"a step {step} that read another {before}"):
        record_run(copy, tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", '{"profile": {}}', "half"])
def test_an_invalid_description_is_one_line(copy: Path, tmp_path: Path, content: str) -> None:
    (copy / "train" / "model.json").write_text(content)
    with pytest.raises(InputError, match=r"checkpoint|model\.json"):
        export_checkpoint(copy / "train", tmp_path / "out")


def test_only_earlier_external_maps_are_replaced(run: Path, tmp_path: Path) -> None:
    data, out = run / "prepared" / "ct-ich", tmp_path / "out"
    for _ in range(2):
        map_external(run, data, out)
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder or an earlier result"):
        map_external(run, data, out)
    assert (out / "thesis.txt").is_file()


def test_maps_of_external_data_resume_after_an_interruption(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, maps, calls = run / "prepared" / "ct-ich", SlicePredictor.maps, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return maps(*arguments)

    monkeypatch.setattr(extraction, "BLOCK", 8)
    whole = map_external(run, data, tmp_path / "whole")
    monkeypatch.setattr(SlicePredictor, "maps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        map_external(run, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before = calls
    map_external(run, data, tmp_path / "out")
    blocks = -(-len(open_prepared(data).slices) // 8) * len(load_profile("smoke").maps.methods)
    assert calls - before < blocks
    assert read_manifest(tmp_path / "out")["outputs"] == read_manifest(whole)["outputs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_name_is_not_a_path(run: Path, tmp_path: Path) -> None:
    for name in ("/abs", "../up", "a/b", "", "."):
        with pytest.raises(InputError, match="name of a checkpoint"):
            app(["export", str(run), name, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_command_line_exports_and_records(run: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> None:
        app([*arguments], standalone_mode=False)

    call("export", str(run), "small", "--out", str(tmp_path))
    assert load_pretrained(str(tmp_path / "small")).profile.name == "smoke"
    call("record", str(run), str(tmp_path / "runs" / "tiny"), "--note", "Two cores.", "--with-checkpoint")
    assert json.loads((tmp_path / "runs" / "tiny" / "record.json").read_text())["note"] == "Two cores."
    assert (tmp_path / "runs" / "tiny" / "train" / "model.safetensors").is_file()

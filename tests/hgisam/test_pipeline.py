"""The three steps together, also from the command line, on a set that trains in seconds."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from data_prep.prepared_set import write_prepared
from hgisam import pipeline
from hgisam.__main__ import main
from hgisam.config.profile import Profile, load_profile
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.evaluation.score_maps import MASK_RULES, THRESHOLD_BASELINES
from hgisam.inference import extraction
from hgisam.inference.external import evaluate_external
from hgisam.inference.predictor import SlicePredictor
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book import figures
from hgisam_book.studies.results import results_step
from tests.conftest import TINY, make_prepared

STILL = [f"train.augment.{key}=0" for key in ("rotate_deg", "scale", "gain", "noise_hu", "blur_px")]
OPTIONS = [*TINY, "train.epochs=10", "train.learning_rate=2e-3", "train.patience=10", *STILL]
Hgisam = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    runs = tmp_path_factory.mktemp("runs")
    make_prepared(runs / "smoke" / "prepared" / "rsna", patients=48, with_mask=False)
    make_prepared(runs / "smoke" / "prepared" / "ct-ich", patients=12, splits=("val", "test"), seed=1)
    profile = load_profile("smoke", OPTIONS)
    for step in (pipeline.train_step, pipeline.map_step, pipeline.evaluate_step):
        step(profile, runs)
    return runs


def test_summary(runs: Path) -> None:
    summary = json.loads((runs / "smoke" / "summary.json").read_text())
    assert summary == json.loads((runs / "smoke" / "evaluate" / "summary.json").read_text())
    assert set(summary["segmentation"]) == {"hgi_sam", "swin_sam", "grad_cam", *MASK_RULES, *THRESHOLD_BASELINES}
    assert summary["split"] == "folds"
    for method in summary["segmentation"].values():
        for name in ("dice_slice", "dice_scan", "iou_slice", "dice_slice_gated", "false_positive_ml"):
            low, high = method[name]["ci95"]
            assert 0 <= low <= method[name]["mean"] <= high
        assert set(method["dice_by_type"]) == set(SUBTYPES)
        assert (method["n_slices"], method["n_scans"], method["n_scans_negative"]) == (12, 6, 6)
        assert sum(group["n"] for group in method["dice_by_area_mm2"].values()) == 12
        assert sum(group["n"] for group in method["dice_by_volume_ml"].values()) == 6
        assert len(method["thresholds_by_fold"]) == 4
        assert method["absolute_volume_error_ml"]["mean"] >= abs(method["volume_error_ml"]["mean"])
    assert THRESHOLD_BASELINES == figures.HU_METHODS == ("hu_threshold", "smooth_hu_threshold")
    assert summary["segmentation"]["hu_threshold"]["dice_slice"]["mean"] > 0.9  # bright squares are easy for thresholds
    assert summary["detection"]["swin"]["auroc"]["mean"] > 0.8
    assert summary["segmentation"]["hu_threshold"]["n_hd95_undefined"] == 0
    assert summary["segmentation"]["hgi_sam_mass"]["thresholds_by_fold"] == [0.5] * 4
    assert len(summary["comparisons"]) == 7 * 6 / 2
    for pair in summary["comparisons"]:
        assert pair["p_value"] is None or pair["p_value"] <= pair["p_holm"] <= 1


def test_metrics_agree_with_the_arrays(runs: Path) -> None:
    """Recomputes a slice's Dice from maps, threshold, mask and brain."""
    run = runs / "smoke"
    data = open_prepared(run / "prepared" / "ct-ich")
    maps = zarr.open_group(run / "maps" / "maps.zarr", mode="r")
    thresholds = json.loads((run / "evaluate" / "thresholds.json").read_text())["methods"]
    table = pd.read_parquet(run / "evaluate" / "metrics.parquet")
    slices = table[(table["level"] == "slice") & (table["metric"] == "dice") & ~table["gated"]]
    assert set(slices["row"]) == set(np.flatnonzero((data.mask[:] > 0).any(axis=(1, 2))))
    for row, value in slices[slices["method"] == "hgi_sam"][["row", "value"]].itertuples(index=False):
        threshold = thresholds["hgi_sam"]["folds"][data.slices["fold"].iloc[row]]
        found = (maps["hgi_sam"][row].astype(np.float32) >= threshold) & (data.brain[row] > 0)
        truth = data.mask[row] > 0
        assert value == pytest.approx(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    negative = table[table["metric"] == "false_positive_ml"]
    assert set(negative["study"]).isdisjoint(slices["study"])


def test_a_finished_step_is_not_rerun_unless_it_changed(runs: Path) -> None:
    profile = load_profile("smoke", OPTIONS)
    before = read_manifest(runs / "smoke" / "evaluate")
    pipeline.evaluate_step(profile, runs)
    assert read_manifest(runs / "smoke" / "evaluate")["started"] == before["started"]
    changed = load_profile("smoke", [*OPTIONS, "evaluate.bootstrap=101"])
    pipeline.evaluate_step(changed, runs)
    assert read_manifest(runs / "smoke" / "evaluate")["fingerprint"] != before["fingerprint"]


def test_a_failed_step_leaves_no_folder_and_is_resumed(tmp_path: Path, tiny: Profile) -> None:
    seen = []

    def work(folder: Path) -> None:
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / "half").write_text("1")
        if len(seen) == 1:
            raise OSError(28, "No space left on device")

    arguments = {"code": ["hgisam.errors"], "sections": ("train",), "inputs": {"a": "1"}}
    with pytest.raises(OSError, match="No space"):
        Run(tiny, tmp_path).make("train", work, **arguments)
    assert not (tmp_path / "smoke" / "train").exists()
    folder = Run(tiny, tmp_path).make("train", work, **arguments)
    assert seen == [["fingerprint"], ["fingerprint", "half"]]
    assert set(read_manifest(folder)["outputs"]) == {"half"}
    Run(tiny, tmp_path).make("train", work, **{**arguments, "inputs": {"a": "2"}})
    assert seen[2] == ["fingerprint"]


def test_maps_resume_where_they_were_stopped(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile("smoke", OPTIONS)
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    predictor = SlicePredictor.of(pipeline.load_checkpoint(runs / "smoke" / "train"), profile)
    methods = extraction.methods_of(profile.maps)
    monkeypatch.setattr(extraction, "BLOCK", 16)
    calls, original = [], SlicePredictor.maps

    def dies(*args: object) -> object:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(SlicePredictor, "maps", dies)
    with pytest.raises(KeyboardInterrupt):
        extraction.extract_maps(predictor, methods, data, tmp_path)
    extraction.extract_maps(predictor, methods, data, tmp_path)
    assert len(calls) == 6 + 2 + 3 * 3  # two blocks whole, two maps of the third, then three blocks
    for name in profile.maps.methods:
        got = zarr.open_group(tmp_path / "maps.zarr", mode="r")[name][:]
        expected = zarr.open_group(runs / "smoke" / "maps" / "maps.zarr", mode="r")[name][:]
        np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.fixture
def hgisam(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command line in this process: exit code and text on stderr."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hgisam", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), capsys.readouterr().err

    return call


def test_external_validation_on_a_set_of_another_size(runs: Path, tmp_path: Path, hgisam: Hgisam) -> None:
    other = make_prepared(tmp_path / "other", patients=6, size_px=64, splits=("val", "test"), seed=9)
    code, error = hgisam("evaluate", "--run", runs / "smoke", "--data", other, "--out", tmp_path / "out")
    assert code == 0, error
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["split"] == "all"
    stored = json.loads((runs / "smoke" / "summary.json").read_text())
    for name, method in summary["segmentation"].items():
        assert method["threshold"] == stored["segmentation"][name]["threshold"]
        assert method["n_slices"] == 6
    code, error = hgisam(
        "evaluate", "--run", runs / "smoke", "--data", runs / "smoke/prepared/ct-ich", "--out", tmp_path / "own"
    )
    assert code == 0, error
    again = json.loads((tmp_path / "own" / "summary.json").read_text())
    assert again["split"] == "folds"
    assert again["segmentation"]["hgi_sam"]["dice_slice"]["mean"] == pytest.approx(
        stored["segmentation"]["hgi_sam"]["dice_slice"]["mean"], abs=2e-3
    )


def test_studies_that_do_not_look_like_hu_are_one_warning(
    runs: Path, tmp_path: Path, hgisam: Hgisam, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    report = {"odd_hu": {"count": 2, "first": []}, "no_brain": {"count": 1, "first": []}}
    write_prepared(
        tmp_path / "mine", slices=data.slices, size_px=data.hu.shape[1], blocks=[(data.hu[:], data.brain[:], None)],
        with_mask=False, info={"name": "folder", "source": "x", "report": report},
    )  # fmt: skip
    for command in ("map", "evaluate"):
        caplog.clear()
        where = ["--run", runs / "smoke", "--data", tmp_path / "mine", "--out", tmp_path / command]
        assert hgisam(command, *where)[0] == 0
        warned = [record.getMessage() for record in caplog.records if "HU" in record.getMessage()]
        assert warned == [
            f"{tmp_path}/mine: 3 of 12 studies don't look like a head in HU (no_brain, odd_hu in its dataset.json); "
            "check them"
        ]
    for step in (pipeline.map_step, pipeline.evaluate_step):
        caplog.clear()
        step(load_profile("smoke", OPTIONS), runs)
        assert not [record for record in caplog.records if "HU" in record.getMessage()]


def test_a_set_without_blood_gets_what_can_be_measured(runs: Path, tmp_path: Path, hgisam: Hgisam) -> None:
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    write_prepared(
        tmp_path / "mine", slices=data.slices.assign(**dict.fromkeys(LABELS, 0)), size_px=data.hu.shape[1],
        blocks=[(data.hu[:], data.brain[:], np.zeros(data.hu.shape, np.uint8))], with_mask=True,
        info={"name": "folder", "source": "x"},
    )  # fmt: skip
    where = ["--run", runs / "smoke", "--data", tmp_path / "mine", "--out", tmp_path / "out"]
    code, error = hgisam("evaluate", *where)
    assert code == 0, error
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["detection"]["swin"]["specificity"]["mean"] is not None
    for method in summary["segmentation"].values():
        assert method["dice_slice"]["mean"] is None
        assert (method["n_scans"], method["n_scans_negative"]) == (0, 12)
        assert method["false_positive_ml"]["mean"] >= 0


def test_a_set_without_masks_gets_detection_only(runs: Path, tmp_path: Path) -> None:
    out = evaluate_external(runs / "smoke", runs / "smoke" / "prepared" / "rsna", tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["segmentation"] == {}
    assert summary["detection"]["swin"]["auroc"]["mean"] > 0.8


def test_a_set_without_labels_is_mapped_and_not_evaluated(runs: Path, tmp_path: Path, hgisam: Hgisam) -> None:
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    write_prepared(
        tmp_path / "mine", slices=data.slices.assign(**dict.fromkeys(LABELS, -1)), size_px=data.hu.shape[1],
        blocks=[(data.hu[:], data.brain[:], None)], with_mask=False, info={"name": "folder", "source": "x"},
    )  # fmt: skip
    where = ["--run", runs / "smoke", "--data", tmp_path / "mine", "--out", tmp_path / "out"]
    code, error = hgisam("evaluate", *where)
    assert (code, error.count("\n")) == (2, 1), error
    assert "Use hgisam map" in error
    for _ in range(2):  # an earlier result is replaced
        assert hgisam("map", *where)[0] == 0
    maps, own = (zarr.open_group(f / "maps.zarr", mode="r") for f in (tmp_path / "out", runs / "smoke" / "maps"))
    np.testing.assert_array_equal(maps["hgi_sam"][:], own["hgi_sam"][:])  # type: ignore[index]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"maps.zarr", "scores.parquet", "manifest.json"}
    assert hgisam("map", *where[:-1], runs)[0] == 2
    for other in ("maps", "evaluate"):  # a step of a run is no earlier result of this command
        shutil.copytree(runs / "smoke" / other, tmp_path / other)
        code, error = hgisam("map", *where[:-1], tmp_path / other)
        assert (code, error.count("\n")) == (2, 1), error
        assert "holds something else" in error


def test_users_mistakes_are_one_line_and_exit_code_2(runs: Path, tmp_path: Path, hgisam: Hgisam) -> None:
    wide = make_prepared(tmp_path / "wide", patients=4, field_mm=300)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    run, data = runs / "smoke", runs / "smoke/prepared/ct-ich"
    for arguments, message in [
        (["train", "--profile", "smok"], "Did you mean smoke"),
        (["train", "--profile", "smoke", "--set", "train.epoch=1"], "Did you mean epochs"),
        (["train", "--profile", "smoke", "--runs-dir", tmp_path], "02_data_preparation"),
        (["map", "--profile", "laptop", "--runs-dir", runs], "02_data_preparation"),
        (["evaluate", "--run", run], "all of --run, --data and --out"),
        (["evaluate", "--run", tmp_path, "--data", data, "--out", tmp_path / "o"], "a folder with model.json"),
        (["evaluate", "--run", run, "--data", tmp_path, "--out", tmp_path / "o"], "no dataset.json"),
        (["evaluate", "--run", run, "--data", wide, "--out", tmp_path / "o"], "--field-of-view-mm 200"),
        (["evaluate", "--run", run, "--data", data, "--out", tmp_path / "mine"], "holds something else"),
        (["evaluate", "--run", run, "--data", data, "--out", runs], "apart from the run"),
    ]:
        code, error = hgisam(*arguments)
        assert (code, error.count("\n")) == (2, 1), error
        assert message in error
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert not (tmp_path / "o").exists()


def test_a_lost_file_of_a_finished_step_is_one_line(runs: Path, tmp_path: Path, hgisam: Hgisam) -> None:
    shutil.copytree(runs / "smoke", tmp_path / "smoke", ignore=shutil.ignore_patterns("evaluate", "phantom"))
    maps = tmp_path / "smoke" / "maps"
    whole = (maps / "scores.parquet").read_bytes()
    for name, spoil in [
        ("scores.parquet", lambda: (maps / "scores.parquet").write_bytes(whole[:300])),
        ("scores.parquet", (maps / "scores.parquet").unlink),
        ("maps.zarr", lambda: shutil.rmtree(maps / "maps.zarr")),
    ]:
        spoil()
        code, error = hgisam("evaluate", "--profile", "smoke", "--runs-dir", tmp_path)
        assert (code, error.count("\n")) == (2, 1), error
        assert f"{name}: got unreadable" in error


def test_results_include_the_maps_of_other_steps(runs: Path, tmp_path: Path) -> None:
    """A perfect network, less so on the fold on which the threshold of fold 0 is chosen, beside the maps of the run."""
    copy = tmp_path / "runs" / "smoke"
    for step in ("prepared", "train", "maps"):
        (copy / step).parent.mkdir(parents=True, exist_ok=True)
        (copy / step).symlink_to(runs / "smoke" / step)
    data = open_prepared(copy / "prepared" / "ct-ich")
    truth = (data.mask[:] > 0).astype("float16")
    profile = load_profile("smoke", OPTIONS)

    def work(folder: Path) -> None:
        root = zarr.create_group(folder / "maps.zarr")
        root.create_array("unet", data=truth)
        background = 0.3 * (data.slices["fold"] == 1).to_numpy()[:, None, None]
        root.create_array("unet_validation", data=np.maximum(truth, background).astype("float16"))

    arguments = {"code": ["hgisam.errors"], "sections": ("train",), "inputs": {"a": "1"}}
    Run(profile, tmp_path / "runs").make("baselines/unet/maps", work, **arguments)
    found = {"hgi_sam": {"difference": {"mean": 0.1, "ci95": [0.0, 0.2]}}}
    (copy / "classifiers" / "study").mkdir(parents=True)
    (copy / "classifiers" / "study" / "study.json").write_text(json.dumps(found))
    folder = results_step(profile, tmp_path / "runs")
    inputs = {"prepared/ct-ich", "scores", "maps", "baselines/unet/maps", "binary_vs_subtype"}
    assert read_manifest(folder)["inputs"].keys() == inputs
    assert (copy / "summary.json").read_text() == (folder / "summary.json").read_text()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["studies"] == {"binary_vs_subtype": found}
    chosen = [(step / 20) ** 2 for step in (1, 11)]  # the smallest, and the smallest above 0.3
    assert summary["segmentation"]["unet"]["thresholds_by_fold"] == pytest.approx([chosen[1], *[chosen[0]] * 3])
    assert summary["segmentation"]["unet"]["dice_slice"]["mean"] == 1
    alone = json.loads((runs / "smoke" / "evaluate" / "summary.json").read_text())
    for name, method in alone["segmentation"].items():
        assert summary["segmentation"][name]["thresholds_by_fold"] == method["thresholds_by_fold"]
        assert summary["segmentation"][name]["dice_slice"]["mean"] == method["dice_slice"]["mean"]
    assert {pair["a"] for pair in summary["comparisons"]} >= {"hgi_sam", "unet"}

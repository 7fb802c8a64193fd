import json
from pathlib import Path

import pytest

import build
import steps
from hgisam.config.profile import load_profile
from run_notebook import declared_parameters


def test_a_notebook_is_made_from_its_code_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "%matplotlib inline\nfrom hgisam.data import Preprocessor"
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}]}))
    (tmp_path / "run_notebook.py").write_text("")
    monkeypatch.setattr(steps, "BOOK", tmp_path)
    code = {path.name for path in steps.code_of(tmp_path / "n.ipynb")}
    assert {"preprocess.py", "windows.py"} <= code
    assert code.isdisjoint({"augmentation.py", "prepared.py", "loop.py"})
    step, profile = steps.Step("n", (), (), shows="recorded"), load_profile("smoke")
    first = steps.made_from(step, profile, "")
    assert steps.made_from(step, load_profile("smoke"), "") == first
    assert steps.made_from(step, load_profile("smoke", ["train.epochs=9"]), "") != first
    (tmp_path / "recorded").mkdir()
    (tmp_path / "recorded" / "bench.json").write_text("{}")
    shown = steps.made_from(step, profile, "")
    assert shown != first
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": source + "\n"}]}))
    assert steps.made_from(step, profile, "") != shown


def test_steps_need_only_what_ran_before() -> None:
    seen: set[str] = set()
    for name, step in steps.STEPS.items():
        assert set(step.needs) <= seen
        seen.add(name)


def test_the_first_chapters_wait_for_no_other() -> None:
    assert all({*steps.STEPS[name].needs} <= {*steps.FIRST} for name in steps.FIRST)


def test_a_notebook_with_missing_outputs_is_rerun(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    notebook = tmp_path / "notebooks" / "04_training.ipynb"
    notebook.write_text("{}")
    assert build.incomplete_notebooks(tmp_path, rsna="", ct_ich="") == [str(notebook)]
    for step in ("train", "live"):
        (tmp_path / step).mkdir()
        (tmp_path / step / "manifest.json").write_text("{}")
    assert build.incomplete_notebooks(tmp_path, rsna="", ct_ich="") == []


def test_a_shown_folder_exists_and_is_a_parameter() -> None:
    shown = [step for step in steps.STEPS.values() if step.shows]
    assert [step.notebook for step in shown] == [
        "04_training",
        "08_performance",
        "09_training_at_scale",
        "15_ledger",
        "16_your_own_scans",
        "19_how_real",
        "20_price_of_a_label",
    ]
    for step in shown:
        assert (steps.BOOK / step.shows).is_dir()
        assert step.shows in declared_parameters(steps.BOOK / f"{step.notebook}.ipynb")


def test_notebooks_that_reuse_networks_have_the_parameter(tmp_path: Path) -> None:
    notebooks = {path.stem: declared_parameters(path) for path in steps.BOOK.glob("[0-9]*.ipynb")}
    reusing = [name for name, step in steps.STEPS.items() if step.takes]
    assert sorted(reusing) == sorted(name for name, known in notebooks.items() if "take_from" in known)
    training = tmp_path / "run" / "classifiers" / "binary-1"
    training.mkdir(parents=True)
    files = [training / name for name in ("model.json", "model.safetensors")]
    for file in (*files, training / "README.md"):
        file.write_text("")
    first, other = steps.STEPS[reusing[0]], steps.STEPS["06_results"]
    assert steps.reusable_files(first, str(tmp_path)) == files
    assert steps.reusable_files(first, "") == steps.reusable_files(other, str(tmp_path)) == []


def test_training_requests_the_gpus_of_its_profile_and_maps_one() -> None:
    compute = load_profile("paper", ["compute.devices=8"]).compute
    requested = {name: steps.gpus_of(step, compute) for name, step in steps.STEPS.items()}
    assert requested["02_data_preparation"] == requested["06_results"] == 0
    assert requested["04_training"] == 8
    assert requested["05_hgi_sam"] == requested["09_training_at_scale"] == 1
    on_cpu = load_profile("paper", ["compute.devices=8", "compute.accelerator=cpu"]).compute
    assert {steps.gpus_of(step, on_cpu) for step in steps.STEPS.values()} == {0}


def test_light_chapters_take_one_core_and_heavy_ones_their_share() -> None:
    alone, side_by_side = (load_profile("laptop", [f"compute.chapters={n}"]).compute for n in (1, 2))
    light, heavy = steps.STEPS["06_results"], steps.STEPS["11_baselines"]
    assert [steps.cores_of(light, compute, 2) for compute in (alone, side_by_side)] == [1, 1]
    assert [steps.cores_of(heavy, compute, 2) for compute in (alone, side_by_side)] == [2, 1]
    assert steps.cores_of(heavy, side_by_side, 1) == 1
    trains = {name for name, step in steps.STEPS.items() if step.gpus == "all"}
    assert {step.cores for name, step in steps.STEPS.items() if name in trains} == {"share"}


def test_what_most_wait_for_comes_first() -> None:
    waiting = {name: steps.dependents(name) for name in steps.STEPS}
    assert waiting["01_problem_and_data"] == len(steps.STEPS) - 1
    assert waiting["14_all_results"] == 1  # the ledger
    assert waiting["15_ledger"] == waiting["19_how_real"] == 0
    assert all(waiting[need] > waiting[name] for name, step in steps.STEPS.items() for need in step.needs)


def test_all_of_a_shown_folder_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BOOK", tmp_path)
    (tmp_path / "recorded" / "run").mkdir(parents=True)
    files = [tmp_path / "recorded" / name for name in ("bench.json", "run/train.csv")]
    for file in files:
        file.write_text("")
    assert steps.shown_files(steps.Step("a", (), (), shows="recorded")) == files
    assert steps.shown_files(steps.Step("b", (), ())) == []

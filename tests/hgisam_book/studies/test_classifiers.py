"""Steps of the study of binary and subtype labels, on a set that trains in seconds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.config.profile import Profile, load_profile
from hgisam.errors import InputError
from hgisam.runs.files import read_json
from hgisam.runs.manifest import read_manifest
from hgisam_book.studies.classifiers import measure_step, study_step, train_classifiers
from tests.conftest import TINY, make_prepared

SHORT = [*TINY, "study.seeds=[1,2]", "study.trainings.binary={task: binary}", "study.trainings.subtype={task: subtype}"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    make_prepared(runs / "smoke" / "prepared" / "rsna", with_mask=False)
    make_prepared(runs / "smoke" / "prepared" / "ct-ich", seed=1)
    return runs


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", SHORT)


@pytest.fixture(scope="module")
def study(runs: Path, profile: Profile) -> Path:
    train_classifiers(profile, runs)
    return study_step(profile, runs)


def test_every_task_and_seed_is_trained_whatever_checkpoint_the_run_adopts(runs: Path, study: Path) -> None:
    adopting = load_profile("smoke", [*SHORT, "train.checkpoint=phantom-binary"])
    trained = train_classifiers(adopting, runs)
    assert list(trained) == [("binary", 1), ("subtype", 1), ("binary", 2), ("subtype", 2)]
    for (task, seed), folder in trained.items():
        about = read_json(folder / "model.json")["profile"]
        assert (about["task"], about["seed"], about["train"]["checkpoint"]) == (task, seed, None)
    weights = {read_manifest(folder)["outputs"]["model.safetensors"] for folder in trained.values()}
    assert len(weights) == 4


def test_trainings_in_parallel_equal_those_one_after_the_other(runs: Path, study: Path, tmp_path: Path) -> None:
    both = load_profile("smoke", [*SHORT, "compute.trainings=2", "study.seeds=[2]"])
    make_prepared(tmp_path / "smoke" / "prepared" / "rsna", with_mask=False)
    for key, folder in train_classifiers(both, tmp_path).items():
        together, alone = (
            pd.read_csv(path / "train.csv") for path in (folder, runs / "smoke/classifiers" / folder.name)
        )
        np.testing.assert_allclose(together["train_loss"], alone["train_loss"], rtol=1e-3, err_msg=str(key))


def test_the_run_s_own_classifier_is_not_trained_twice(runs: Path) -> None:
    options = [*SHORT, "seed=5", "study.seeds=[5]"]
    own = load_profile("smoke", options)
    names = [folder.relative_to(runs / "smoke").as_posix() for folder in train_classifiers(own, runs).values()]
    assert names == ["train", "classifiers/subtype-5"]
    assert measure_step(own, runs, "binary", 5).name == "binary-5"
    other = "study.trainings.binary={task: binary, train.weight_decay: 0.04}"
    apart = train_classifiers(load_profile("smoke", [*options, other]), runs)
    assert apart["binary", 5].name == "binary-5"


def test_the_study_has_all_classifiers(study: Path) -> None:
    dice, scores, heads = (pd.read_parquet(study / f"{name}.parquet") for name in ("dice", "scores", "heads"))
    for table in (dice, scores, heads):
        assert table.groupby(["task", "seed"]).ngroups == 4
    assert scores["row"].nunique() == 48
    summary = read_json(study / "study.json")
    for method in ("hgi_sam", "swin_sam"):
        binary, subtype, difference = (summary[method][key]["mean"] for key in ("binary", "subtype", "difference"))
        assert difference == pytest.approx(binary - subtype)


def test_a_second_run_finds_it_done_and_another_grid_of_thresholds_reruns_it(
    runs: Path, profile: Profile, study: Path
) -> None:
    before = read_manifest(study)
    assert read_manifest(study_step(profile, runs)) == before
    changed = load_profile("smoke", [*SHORT, "evaluate.thresholds=10"])
    assert read_manifest(study_step(changed, runs))["fingerprint"] != before["fingerprint"]


def test_a_study_without_its_trainings_names_the_notebook(runs: Path, tmp_path: Path, profile: Profile) -> None:
    make_prepared(tmp_path / "smoke" / "prepared" / "ct-ich")
    with pytest.raises(InputError, match="10_binary_or_subtype"):
        study_step(profile, tmp_path)

"""The training cohort: an excerpt where every network is recorded, else whole; and recorded networks on an excerpt."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from hgisam import pipeline
from hgisam.config.profile import Profile, load_profile
from hgisam.data.labels import LABELS
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.runs.files import read_json, write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book import training_cohort
from hgisam_book.recorded.excerpt import COHORT, EXCERPT, Check, Excerpt, is_excerpt, read_excerpt
from hgisam_book.recorded.reuse import RECORDED, train_or_reuse
from hgisam_book.recorded.runs import add_excerpt, read_runs, record_run
from hgisam_book.report import excerpt_note, notes
from hgisam_book.studies.prices import labels_used
from hgisam_book.systems.slice_mil import SliceMil
from hgisam_book.systems.training import fit_system
from hgisam_book.training_cohort import (
    read_cohort_table,
    recorded_cohort,
    splits_of_excerpt,
    weak_trainings,
    write_cohort_table,
    write_training_cohort,
)
from tests.conftest import TINY, make_prepared

RECORDS = Path(__file__).resolve().parents[2] / "book" / "recorded"
RECORD = RECORDS / "laptop-2-cores"


def test_the_record_has_every_network_of_the_laptop_profile() -> None:
    """Without this, `make book` makes 360 patients and trains for hours."""
    laptop = load_profile("laptop")
    assert recorded_cohort(laptop, RECORDS) == RECORD
    excerpt = read_excerpt(RECORD)
    assert excerpt is not None
    assert excerpt.networks.keys() == weak_trainings(laptop).keys()
    table = pd.read_csv(RECORD / COHORT)
    assert table["patient"].nunique() == laptop.phantom.training_patients
    trained_on = read_json(RECORD / "train" / "model.json")["data"]
    split = table.groupby("split")
    assert split["patient"].nunique().to_dict() == trained_on["patients"]
    assert split["slices"].sum().to_dict() == trained_on["slices"]
    assert split["any"].sum().to_dict() == trained_on["bleeding"]


def test_no_training_on_the_cohort_is_forgotten() -> None:
    """By what the recorded trainings read: the set itself, or one that a study made of it."""
    of_masks = ("baselines/", "price/box", "price/ball", "price/focal_segnet", "other_domains/")
    steps = {path.parent.relative_to(RECORD).as_posix() for path in RECORD.rglob("model.json")}
    read = {step: set(read_manifest(RECORD / step)["inputs"]) for step in steps}
    weak = {step for step, inputs in read.items() if "prepared/rsna" in inputs}
    made = {step for step, inputs in read.items() if "prepared/dataset" in inputs and not step.startswith(of_masks)}
    assert weak_trainings(load_profile("laptop")).keys() == weak | made
    assert made  # exams and pseudo-masks


@pytest.mark.parametrize(
    "change",
    ["study.trainings.exam.train.epochs=4", "study.seeds=[1,2,3,4]", "train.epochs=3", "phantom.excerpt=50",
     "phantom.excerpt=null", "seed=1"],
)  # fmt: skip
def test_one_network_that_is_not_recorded_needs_all_patients(change: str) -> None:
    if change.startswith("study.trainings.exam"):
        change = "study.trainings.exam={task: binary, train.epochs: 4, train.patience: 3}"
    assert recorded_cohort(load_profile("laptop", [change]), RECORDS) is None
    assert recorded_cohort(load_profile("laptop"), None) is None


def test_all_patients_replace_an_excerpt_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def write(out: Path, *, patients: int, **_: object) -> Path:
        written.append(patients)
        out.mkdir(exist_ok=True)
        (out / "phantom.json").write_text(json.dumps({"patients": patients}))
        return out

    monkeypatch.setattr(training_cohort, "write_phantom", write)
    laptop, out = load_profile("laptop"), tmp_path / "rsna"
    for take_from in (RECORDS, RECORDS, None, RECORDS):
        write_training_cohort(laptop, out, take_from)
        excerpt = read_json(out / "phantom.json")["patients"] == 60
        assert splits_of_excerpt(laptop, out, RECORDS) == (RECORD / COHORT if excerpt else None)
    assert written == [60, 60, 360, 360]
    write_json(out / "phantom.json", {"patients": 60})
    with pytest.raises(InputError, match="an excerpt of its cohort"):
        splits_of_excerpt(laptop, out, None)
    (out / "phantom.json").unlink()  # real studies
    assert splits_of_excerpt(laptop, out, RECORDS) is None


def test_a_stopped_cohort_of_the_other_size_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rsna"
    partial = tmp_path / "rsna.partial"
    monkeypatch.setattr(training_cohort, "write_phantom", lambda *_, **__: out)
    for take_from, patients, stays in (
        (RECORDS, 60, True),
        (None, 60, False),
        (None, 100, True),
        (RECORDS, 360, False),
    ):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_json(partial / "parameters.json", {"patients": patients})
        write_training_cohort(load_profile("laptop"), out, take_from)
        assert partial.exists() == stays


def test_a_cohort_of_other_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "rsna").mkdir()
    write_json(tmp_path / "rsna" / "phantom.json", {"patients": 500})
    with pytest.raises(InputError, match="Choose another folder"):
        write_training_cohort(load_profile("laptop"), tmp_path / "rsna", None)
    assert (tmp_path / "rsna" / "phantom.json").is_file()


def test_a_given_split_may_name_patients_whom_a_user_has_not(tmp_path: Path, profile: Profile) -> None:
    prepared = make_prepared(tmp_path / "smoke" / "prepared" / "rsna", patients=8)
    about = read_json(prepared / "dataset.json")
    write_json(prepared / "dataset.json", {**about, "absent_patients": 4})
    assert (pipeline.train_step(profile, tmp_path) / "manifest.json").is_file()


def test_the_table_of_the_cohort(tmp_path: Path) -> None:
    run = Run(load_profile("smoke"), tmp_path)
    with pytest.raises(InputError, match="Run chapter 2 again"):
        read_cohort_table(run)
    data = open_prepared(make_prepared(run.folder("prepared/rsna"), patients=12))
    write_cohort_table(run, data, None)
    table = read_cohort_table(run)
    assert list(table.columns) == ["patient", "study", "split", "fold", "slices", *LABELS]
    assert table["slices"].tolist() == [6] * 12
    assert table["any"].tolist() == [2, 0] * 6
    assert Counter(table["split"]) == {"train": 6, "val": 6}
    masks = open_prepared(make_prepared(tmp_path / "ct-ich", patients=16))
    used = labels_used(["hgi_sam"], masks, table, run.profile)["hgi_sam"]
    assert used["training"]["slice"] == {"scan": 6, "slice": 36, "bleeding scan": 3}
    (tmp_path / "other.csv").write_text("patient,study,split,fold,slices\na,b,val,0,9\n")
    write_cohort_table(run, data, tmp_path / "other.csv")
    assert read_cohort_table(run)["slices"].tolist() == [9]


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", TINY)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
    """A record, and beside it the run, of 12 patients."""
    runs = tmp_path_factory.mktemp("runs")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("val", "test"))):
        make_prepared(runs / "smoke" / "prepared" / name, patients=12, splits=splits)
    for step in (pipeline.train_step, pipeline.map_step, pipeline.evaluate_step):
        step(profile, runs)
    write_cohort_table(Run(profile, runs), open_prepared(runs / "smoke" / "prepared" / "rsna"), None)
    record_run(runs / "smoke", runs / "records" / "first", with_checkpoint=True)
    return runs / "records"


def excerpt_of(records: Path, out: Path, check: Check | None) -> tuple[Path, Path]:
    """A copy of the records with a check of the run's training, and a runs folder with the first 8 patients."""
    copy = Path(shutil.copytree(records, out / "records"))
    networks = {} if check is None else {"train": check}
    cohort = records.parent / "smoke" / "prepared" / COHORT
    add_excerpt(copy / "first", cohort, Excerpt(patients=8, networks=networks))
    assert {COHORT, EXCERPT} <= read_runs(copy)["first"].record["files"].keys()
    prepared = make_prepared(out / "runs" / "smoke" / "prepared" / "rsna", patients=8)
    about = read_json(prepared / "dataset.json")
    write_json(prepared / "dataset.json", {**about, "source": "phantom", "absent_patients": 4})
    return copy, out / "runs"


def check_with(value: float, **changes: dict[str, int]) -> Check:
    numbers = {
        "patients": {"train": 4, "val": 4}, "slices": {"train": 24, "val": 24}, "bleeding": {"train": 4, "val": 4},
    }  # fmt: skip
    return Check(**{**numbers, **changes}, metric="val_auroc", value=value)


def test_a_recorded_network_on_an_excerpt(
    records: Path, tmp_path: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*_: object) -> None:
        raise AssertionError("trained")

    with pytest.raises(InputError, match=r"a score of (?P<value>[\d.]+) here") as refused:
        train_or_reuse(Run(profile, excerpt_of(records, tmp_path / "a", check_with(0.0))[1]), "train",
                       tmp_path / "a" / "records")  # fmt: skip
    value = float(str(refused.value).partition("score of ")[2].split()[0])
    copy, runs = excerpt_of(records, tmp_path / "b", check_with(value))
    monkeypatch.setattr(pipeline, "launch", no_training)
    folder = train_or_reuse(Run(profile, runs), "train", copy)
    record = read_json(folder / RECORDED)
    assert record["run"] == "first"
    assert record["then"] == value
    assert len(pd.read_parquet(folder / "predictions.parquet")) == 24


@pytest.mark.parametrize("check", [None, check_with(0.5, slices={"train": 25, "val": 24})])
def test_other_slices_of_an_excerpt_are_refused(
    records: Path, tmp_path: Path, profile: Profile, check: Check | None
) -> None:
    copy, runs = excerpt_of(records, tmp_path, check)
    with pytest.raises(InputError, match="other slices than its own"):
        train_or_reuse(Run(profile, runs), "train", copy)


def test_nothing_is_trained_on_an_excerpt(records: Path, tmp_path: Path, profile: Profile) -> None:
    _, runs = excerpt_of(records, tmp_path, None)
    data = open_prepared(runs / "smoke" / "prepared" / "rsna")
    assert is_excerpt(data)
    with pytest.raises(InputError, match="TRAIN=all"):
        pipeline.train_step(profile, runs)
    with pytest.raises(InputError, match="TRAIN=all"):
        fit_system(SliceMil(), profile, data, tmp_path)
    few = load_profile("smoke", [*TINY, "train.patients=1"])  # asks for few of them, as the live training does
    assert (pipeline.train_step(few, runs, "live") / "manifest.json").is_file()


def test_pages_say_what_is_there(tmp_path: Path, profile: Profile) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=8))
    assert "Of the training cohort" not in str(notes(profile, phantom=True, cohort=data).data)
    data.meta.update(source="phantom", absent_patients=4)
    assert "these are 8 of 12 patients" in str(notes(profile, phantom=True, cohort=data).data)
    assert excerpt_note(8, 8) == ""

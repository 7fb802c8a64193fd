"""Steps of the study of binary and subtype labels: a classifier per task and seed, its measurements, their summary.

Each is a folder under `runs/<profile>/classifiers`: `<task>-<seed>`, `measured/<task>-<seed>`, and `study`.
"""

from pathlib import Path

import pandas as pd

from hgisam.config.profile import Profile
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import OWN, open_step_data
from hgisam.runs.files import read_table, write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.studies.binary_or_subtype import COMPARED_TASKS, summarize_study
from hgisam_book.studies.classifier_measurements import MEASURED, measure_classifier
from hgisam_book.studies.trainings import train_all

TABLES = ("scores.parquet", "dice.parquet", "heads.parquet")


def train_classifiers(
    profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None
) -> dict[tuple[str, int], Path]:
    """Trains a classifier for each task and seed of the study, reuses it from a recorded run, or finds it done.

    `train.checkpoint`, which the run may adopt instead of its training, does not count here: one network can't be
    several. Where the training of the run has the seed and settings of one of them, it is that one.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse trainings that are the same; None to train.

    Returns:
        Task and seed → the finished folder.
    """
    trainings = trainings_of_study(profile)
    trained = train_all(dict(trainings.values()), runs_dir, "classifiers", take_from)
    return dict(zip(trainings, trained, strict=True))


def trainings_of_study(profile: Profile) -> dict[tuple[str, int], tuple[str, Profile]]:
    """Task and seed, grouped by seed → step and profile of the training."""
    trainings = {}
    for seed in profile.study.seeds:
        for task in COMPARED_TASKS:
            own = profile.variant(task, [f"seed={seed}", "train.checkpoint=null"])
            trainings[task, seed] = (OWN if own == profile else f"classifiers/{task}-{seed}", own)
    return trainings


def measure_step(profile: Profile, runs_dir: str | Path, task: str, seed: int) -> Path:
    """Measures one of the classifiers on the prepared `ct-ich` set; see `measure_classifier`."""
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    step, _ = trainings_of_study(profile)[task, seed]
    trained = run.require(step)

    def work(folder: Path) -> None:
        measure_classifier(
            SlicePredictor.of(load_checkpoint(trained), profile),
            data,
            methods_of(profile.maps, MEASURED),
            folder,
            grid=threshold_grid(profile.evaluate.thresholds),
            gradient_at=profile.maps.gradient_at,
            seed=profile.seed,
        )

    return run.make(
        f"classifiers/measured/{task}-{seed}",
        work,
        code=["hgisam_book.studies.classifier_measurements"],
        sections=("maps", "evaluate", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            step: read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )


def study_step(profile: Profile, runs_dir: str | Path) -> Path:
    """The tables of all classifiers, each with the columns task and seed, and `study.json`.

    Returns:
        `runs/<profile>/classifiers/study`.
    """
    measured = {(task, seed): measure_step(profile, runs_dir, task, seed) for task, seed in trainings_of_study(profile)}

    def work(folder: Path) -> None:
        tables = {}
        for name in TABLES:
            parts = [read_table(path / name).assign(task=task, seed=seed) for (task, seed), path in measured.items()]
            tables[name] = pd.concat(parts, ignore_index=True)
            tables[name].to_parquet(folder / name, index=False)
        options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}
        write_json(folder / "study.json", summarize_study(tables["dice.parquet"], tables["scores.parquet"], **options))

    inputs = {
        f"{path.name}/{name}": read_manifest(path)["outputs"][name] for path in measured.values() for name in TABLES
    }
    return Run(profile, runs_dir).make(
        "classifiers/study",
        work,
        code=["hgisam_book.studies.binary_or_subtype"],
        sections=("evaluate",),
        inputs=inputs,
    )

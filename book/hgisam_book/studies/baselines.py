"""The supervised baselines of a run: a network a fold for each architecture, and U-Nets from fewer and fewer scans."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.batches import balanced_sample
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.cross_validation import extract_by_fold
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import require_step, run_step
from hgisam.training.setup import subset_patients, training_patients
from hgisam_book.studies.label_budget import held_out_dice
from hgisam_book.studies.trainings import train_all

BASELINES = ("unet", "swin_unetr", "unet_published")  # of `study.trainings`
REPEATS = 2  # folds in which each budget is tried: other patients to learn from, other patients to be measured on


def train_folds(
    profile: Profile, runs_dir: Path, name: str, data: PreparedDataset, take_from: Path | None = None
) -> list[Path]:
    """Trains, for each fold, a network that never sees its masks: `runs/<profile>/baselines/<name>/fold-<f>`."""
    trainings = {_step_of(name, fold): _training(profile, name, fold) for fold in _folds(data)}
    return train_all(trainings, runs_dir, name, take_from)


def baseline_step(profile: Profile, runs_dir: Path, name: str, take_from: Path | None = None) -> Path:
    """What a supervised baseline says of every slice of the prepared `ct-ich` set.

    Args:
        profile: Of the run; `study.trainings` says how the baseline is trained.
        runs_dir: Where runs live.
        name: One of `BASELINES`.
        take_from: Folder of recorded runs, whose trainings are taken where they are the same; None to train.

    Returns:
        `runs/<profile>/baselines/<name>/maps`, with the files of `hgisam.inference.cross_validation.extract_by_fold`.
    """
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = train_folds(profile, runs_dir, name, data, take_from)

    def work(folder: Path) -> None:
        predictors = [SlicePredictor.of(load_checkpoint(path), profile) for path in trained]
        extract_by_fold(name, predictors, data, folder)

    return run_step(
        profile,
        runs_dir,
        f"baselines/{name}/maps",
        work,
        code=["hgisam.inference.cross_validation"],
        sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **_weights(trained)},
    )


class Budget(NamedTuple):
    """One training of the label budget: a fold is held out, so many scans are drawn, a draw is passed so often."""

    scans: int
    fold: int
    passes: int


def plan_budgets(profile: Profile, data: PreparedDataset) -> tuple[list[Budget], list[dict[str, int]]]:
    """The trainings that `study.label_budget` asks for.

    An epoch of few scans has few steps. So that each network takes as many steps as the one of all scans, and is looked
    at as often, an epoch passes over few scans several times (`train.passes`), each time changed in another way.

    Args:
        profile: Of the run.
        data: The pixel-labelled set.

    Returns:
        The trainings; and what is left out, as scans and found: in one of the folds no more than that bleed in
        training. A budget is tried in all folds or in none, so that all budgets are measured on the same patients.
    """
    splits = {fold: by_fold(data, fold) for fold in _folds(data)[:REPEATS]}
    found = min(map(_bleeding_patients, splits.values()))
    passes = profile.variant("unet").train.passes
    planned = [
        Budget(scans, fold, round(passes * _slices_of_a_draw(split) / _slices_of_a_draw(few)))
        for fold, split in splits.items()
        for scans in profile.study.label_budget
        if scans < found
        for few in [subset_patients(split, scans, profile.seed)]
    ]
    left_out = [{"scans": scans, "found": found} for scans in profile.study.label_budget if scans >= found]
    return planned, left_out


def label_budget_step(profile: Profile, runs_dir: Path, take_from: Path | None = None) -> Path:
    """U-Nets that learn from fewer and fewer drawn scans, measured on the patients of their held-out fold.

    Args:
        profile: Of the run.
        runs_dir: Where runs live.
        take_from: As for `baseline_step`.

    Returns:
        `runs/<profile>/baselines/label_budget/table`: `dice.parquet` with a row a bleeding test slice (budget, scans,
        fold, patient, row, dice, threshold; the budget "all" is the U-Net of the baselines), and `left_out.json`.
    """
    data = open_step_data(profile, runs_dir, "ct-ich")
    planned, left_out = plan_budgets(profile, data)
    trainings: dict[tuple[str, int, int], tuple[str, Profile]] = {}
    for fold in _folds(data)[:REPEATS]:
        key = ("all", fold, _bleeding_patients(by_fold(data, fold)))
        trainings[key] = (_step_of("unet", fold), _training(profile, "unet", fold))
    for scans, fold, passes in planned:
        few = _training(profile, "unet", fold, f"train.patients={scans}", f"train.passes={passes}")
        trainings[str(scans), fold, scans] = (f"baselines/label_budget/{scans}-scans/fold-{fold}", few)
    trained = dict(
        zip(trainings, train_all(dict(trainings.values()), runs_dir, "label budget", take_from), strict=True)
    )

    def work(folder: Path) -> None:
        grid = threshold_grid(profile.evaluate.thresholds)
        parts = [
            held_out_dice(SlicePredictor.of(load_checkpoint(path), profile), by_fold(data, fold), grid).assign(
                budget=budget, scans=scans, fold=fold
            )
            for (budget, fold, scans), path in tqdm(trained.items(), desc="Dice", unit="network")
        ]
        pd.concat(parts, ignore_index=True).to_parquet(folder / "dice.parquet", index=False)
        write_json(folder / "left_out.json", left_out)

    return run_step(
        profile,
        runs_dir,
        "baselines/label_budget/table",
        work,
        code=["hgisam_book.studies.label_budget"],
        sections=("study", "maps", "evaluate", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **_weights(trained.values())},
    )


def training_histories(profile: Profile, runs_dir: Path, name: str) -> dict[int, pd.DataFrame]:
    """Fold → `train.csv` of the network of a finished baseline that holds it out."""
    folds = _folds(open_step_data(profile, runs_dir, "ct-ich"))
    return {fold: pd.read_csv(require_step(profile, runs_dir, _step_of(name, fold)) / "train.csv") for fold in folds}


def _folds(data: PreparedDataset) -> list[int]:
    return sorted(int(fold) for fold in data.slices["fold"].unique())


def _step_of(name: str, fold: int) -> str:
    return f"baselines/{name}/fold-{fold}"


def _training(profile: Profile, name: str, fold: int, *changes: str) -> Profile:
    """One of `study.trainings` on all but two folds, with further changes to the profile."""
    return profile.variant(name, [f"train.fold={fold}", *changes])


def _weights(trained: Iterable[Path]) -> dict[str, str]:
    """Name → hash of the weights of trained networks, for the manifest of what is made of them."""
    return {"/".join(path.parts[-3:]): read_manifest(path)["outputs"]["model.safetensors"] for path in trained}


def _bleeding_patients(split: PreparedDataset) -> int:
    return int(training_patients(split).sum())


def _slices_of_a_draw(split: PreparedDataset) -> int:
    rows = split.rows("train")
    return len(balanced_sample(rows, split.slices["any"].iloc[rows].to_numpy() == 1, np.random.default_rng()))

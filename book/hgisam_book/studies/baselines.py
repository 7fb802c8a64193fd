"""Supervised baselines of a run: k-fold cross-validation of each architecture, and U-Nets trained on fewer scans."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.batches import balanced_sample
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.evaluation.masks import threshold_grid
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam.training.setup import subset_patients, training_patients
from hgisam_book.studies.cross_validation import extract_by_fold
from hgisam_book.studies.label_budget import held_out_dice
from hgisam_book.studies.trainings import train_all

BASELINES = ("unet", "swin_unetr", "unet_published")  # of `study.trainings`
REPEATS = 2  # folds per label budget: other patients to train on, other patients to test on


def train_folds(run: Run, name: str, data: PreparedDataset, take_from: str | Path | None = None) -> list[Path]:
    """Trains one network per fold, which is held out: `runs/<profile>/baselines/<name>/fold-<f>`."""
    trainings = {_step_of(name, f): run.profile.variant(name, [f"train.fold={f}"]) for f in _folds(data)}
    return train_all(trainings, run.runs_dir, name, take_from)


def baseline_step(profile: Profile, runs_dir: str | Path, name: str, take_from: str | Path | None = None) -> Path:
    """Cross-validated score maps of a supervised baseline on the prepared `ct-ich` set.

    Args:
        profile: Of the run; the training of the baseline is one of its `study.trainings`.
        runs_dir: Folder of all runs.
        name: One of `BASELINES`.
        take_from: Folder of recorded runs, to reuse trainings that are the same; None to train.

    Returns:
        `runs/<profile>/baselines/<name>/maps`, with the files of `cross_validation.extract_by_fold`.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    trained = train_folds(run, name, data, take_from)

    def work(folder: Path) -> None:
        predictors = [SlicePredictor.of(load_checkpoint(path), profile) for path in trained]
        extract_by_fold(name, predictors, data, folder)

    return run.make(
        f"baselines/{name}/maps",
        work,
        code=["hgisam_book.studies.cross_validation"],
        sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **weights_of(trained)},
    )


class Budget(NamedTuple):
    """One training of the label budget: number of annotated scans, fold held out, passes over the slices per epoch."""

    scans: int
    fold: int
    passes: int

    @property
    def step(self) -> str:
        """Step of the training."""
        return f"baselines/label_budget/{self.scans}-scans/fold-{self.fold}"


def plan_budgets(
    data: PreparedDataset, budgets: Sequence[int], *, passes: int, seed: int
) -> tuple[list[Budget], list[dict[str, int]]]:
    """The trainings of `study.label_budget`.

    An epoch of few scans has few steps. To give all networks the same number of steps and of validations, an epoch
    passes over few scans several times (`train.passes`), each time with another random augmentation.

    Args:
        data: The set with masks.
        budgets: Numbers of annotated scans, from `study.label_budget`.
        passes: Passes per epoch over the slices of all scans.
        seed: Of the subsets.

    Returns:
        The trainings; and the budgets left out, as scans and found, the smallest number of bleeding training scans of a
        fold. A budget is used in all folds or in none, so that all budgets are tested on the same patients.
    """
    splits = {fold: by_fold(data, fold) for fold in budget_folds(data)}
    found = min(map(_bleeding_patients, splits.values()))
    planned = [
        Budget(scans, fold, round(passes * _sampled_slices(split) / _sampled_slices(few)))
        for fold, split in splits.items()
        for scans in budgets
        if scans < found
        for few in [subset_patients(split, scans, seed)]
    ]
    left_out = [{"scans": scans, "found": found} for scans in budgets if scans >= found]
    return planned, left_out


def label_budget_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """U-Nets trained on fewer and fewer annotated scans, tested on the patients of their held-out fold.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        take_from: As for `baseline_step`.

    Returns:
        `runs/<profile>/baselines/label_budget/table`: `dice.parquet` with one row per bleeding test slice (budget,
        scans, fold, patient, row, dice, threshold; the budget "all" is the U-Net of the baselines), and
        `left_out.json`.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    budgets, passes = profile.study.label_budget, profile.variant("unet").train.passes
    planned, left_out = plan_budgets(data, budgets, passes=passes, seed=profile.seed)
    trainings: dict[tuple[str, int, int], tuple[str, Profile]] = {}
    for fold in budget_folds(data):
        key = ("all", fold, _bleeding_patients(by_fold(data, fold)))
        trainings[key] = (_step_of("unet", fold), profile.variant("unet", [f"train.fold={fold}"]))
    for plan in planned:
        changes = [f"train.fold={plan.fold}", f"train.patients={plan.scans}", f"train.passes={plan.passes}"]
        trainings[str(plan.scans), plan.fold, plan.scans] = (plan.step, profile.variant("unet", changes))
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

    return run.make(
        "baselines/label_budget/table",
        work,
        code=["hgisam_book.studies.label_budget"],
        sections=("study", "maps", "evaluate", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **weights_of(trained.values())},
    )


def training_histories(run: Run, name: str) -> dict[int, pd.DataFrame]:
    """Fold → `train.csv` of the network of a finished baseline that held it out."""
    folds = _folds(open_step_data(run, "ct-ich"))
    return {fold: pd.read_csv(run.require(_step_of(name, fold)) / "train.csv") for fold in folds}


def budget_folds(data: PreparedDataset) -> list[int]:
    """Folds that the networks of the label budget hold out."""
    return _folds(data)[:REPEATS]


def _folds(data: PreparedDataset) -> list[int]:
    return sorted(int(fold) for fold in data.slices["fold"].unique())


def _step_of(name: str, fold: int) -> str:
    return f"baselines/{name}/fold-{fold}"


def weights_of(trained: Iterable[Path]) -> dict[str, str]:
    """Name → hash of the weights of trained networks, for the manifest of a step that reads them."""
    return {"/".join(path.parts[-3:]): read_manifest(path)["outputs"]["model.safetensors"] for path in trained}


def _bleeding_patients(split: PreparedDataset) -> int:
    return int(training_patients(split).sum())


def _sampled_slices(split: PreparedDataset) -> int:
    rows = split.rows("train")
    return len(balanced_sample(rows, split.slices["any"].iloc[rows].to_numpy() == 1, np.random.default_rng()))

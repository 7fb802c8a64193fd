"""The ladder of labels: Dice of methods that learn from exams, slices, boxes, balls and masks, on the same slices.

The segmenter of boxes, balls and masks is always the same U-Net, so that only its labels differ. All methods are tested
on the bleeding slices of the same patients, those of the folds of the label budget.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.evaluation.masks import Grid, apply_threshold, best_threshold, dice_curve, threshold_grid
from hgisam.evaluation.score_maps import (
    MASK_GRID,
    THRESHOLD_BASELINES,
    ScoreMaps,
    candidates,
    read_score_maps,
    score_maps_at,
)
from hgisam.evaluation.thresholds import bleeding_slices, choose_thresholds
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.recorded.excerpt import COHORT
from hgisam_book.recorded.reuse import train_or_reuse
from hgisam_book.studies.baselines import budget_folds, plan_budgets, weights_of
from hgisam_book.studies.coarse_labels import COARSE, coarse_set, coarse_set_step
from hgisam_book.studies.method_comparison import batches
from hgisam_book.studies.prices import AT_ONE_HALF, HALF, LABEL_OF, labels_used
from hgisam_book.studies.trainings import train_all
from hgisam_book.training_cohort import read_cohort_table

Maps = npt.NDArray[np.floating]  # [n, row, col], like masks
Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]  # [n], one per slice


class Slices(NamedTuple):
    """Some slices of a set: rows [n], masks and brain [n, row, col]."""

    rows: npt.NDArray[np.int64]
    truth: Bools
    brain: npt.NDArray[np.uint8]


class Classifier(NamedTuple):
    """Probability of bleeding of every slice of a set, and that from which on a slice is predicted to bleed."""

    scores: Values
    threshold: float


class Answer(NamedTuple):
    """Score maps [n, row, col] of some slices by a method, their threshold, and its classifier of slices, if any."""

    method: str
    maps: Maps
    threshold: float
    classifier: Classifier | None = None


def exam_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """Maps of a Swin that was trained on labels of exams, on the prepared `ct-ich` set.

    Args:
        profile: Of the run; the training is "exam" of its `study.trainings`.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse the training if it is the same; None to train.

    Returns:
        `runs/<profile>/price/exam/maps`.
    """
    run = Run(profile, runs_dir)
    data, labels = open_step_data(run, "ct-ich"), coarse_set_step(profile, runs_dir, "exam")
    variant = profile.variant("exam", ["train.checkpoint=null"])
    trained = train_or_reuse(Run(variant, runs_dir), "price/exam/swin", take_from, coarse_set(labels))

    def work(folder: Path) -> None:
        extract_maps(SlicePredictor.of(load_checkpoint(trained), profile), methods_of(profile.maps), data, folder)

    return run.make(
        "price/exam/maps",
        work,
        code=["hgisam.inference.extraction"],
        sections=("maps", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "swin": read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )


def ladder_step(
    profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None, systems: Sequence[str | Path] = ()
) -> Path:
    """Dice of every method of the ladder on the bleeding test slices of the label budget's folds.

    Args:
        profile: Of the run, which has its maps, baselines, label budget and refinement.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse trainings that are the same; None to train.
        systems: Folders with the maps of `hgisam_book.systems`.

    Returns:
        `runs/<profile>/price/table`: `dice.parquet` with a row per method and slice (method, fold, patient, row, dice),
        `labels.parquet` with the Dice of the coarse labels' own masks, in the same columns, and `units.json`, from
        `labels_used`. `masks.parquet` has the slices of test scans without a bleed too (method, fold, patient, row,
        bleeds, mask_ml, score): of a method with a classifier of slices the score is its probability of bleeding, and
        the mask of a slice that it predicts not to bleed is empty; of others the score is the mask's volume.
    """
    run, others = Run(profile, runs_dir), [Path(source) for source in systems]
    data, cohort = open_step_data(run, "ct-ich"), read_cohort_table(run)
    exam, folds = exam_step(profile, runs_dir, take_from), budget_folds(data)
    sets = {label: coarse_set(coarse_set_step(profile, runs_dir, label)) for label in COARSE}
    unets: dict[tuple[str, int], Path] = {}
    for label in COARSE:
        trainings = {f"price/{label}/fold-{fold}": profile.variant("unet", [f"train.fold={fold}"]) for fold in folds}
        paths = train_all(trainings, runs_dir, label, take_from, sets[label])
        unets |= {(label, fold): path for fold, path in zip(folds, paths, strict=True)}
    mapped, refined = run.require("maps"), run.require("refined/maps")
    budget, passes = run.require("baselines/label_budget/table"), profile.variant("unet").train.passes
    planned, _ = plan_budgets(data, profile.study.label_budget, passes=passes, seed=profile.seed)
    few = {plan: run.require(plan.step) for plan in planned}
    trained, trained_on_exams = run.require("train"), run.require("price/exam/swin")
    full = {fold: run.require(f"baselines/unet/fold-{fold}") for fold in folds}

    def work(folder: Path) -> None:
        grid = threshold_grid(profile.evaluate.thresholds)
        weak_maps = read_score_maps(*(source / "maps.zarr" for source in (mapped, refined)))
        exam_maps = read_score_maps(exam / "maps.zarr")
        system_maps = read_score_maps(*(source / "maps.zarr" for source in others))
        by_slices, by_exams = _classifier(mapped, trained), _classifier(exam, trained_on_exams)
        weak = _thresholds_of_weak_methods(data, weak_maps, "", profile)
        of_exams = _thresholds_of_weak_methods(data, exam_maps, "exam_", profile)
        budgets = pd.read_parquet(budget / "dice.parquet")
        chosen = budgets.groupby(["fold", "budget"])["threshold"].first()

        def answers(fold: int, split: PreparedDataset, val: Slices, tested: Slices) -> Iterator[Answer]:
            """Score maps of the tested slices by every method, and their threshold."""
            for name, thresholds in weak.items():
                maps = score_maps_at(name, weak_maps, data, tested.rows, tested.brain)
                yield Answer(name, maps, thresholds[fold], None if name in THRESHOLD_BASELINES else by_slices)
            for name, thresholds in of_exams.items():
                maps = score_maps_at(name, exam_maps, data, tested.rows, tested.brain)
                yield Answer(f"exam_{name}", maps, thresholds[fold], by_exams)
            yield Answer(HALF, _stored(weak_maps, "hgi_sam_self_trained", tested), 0.5, by_slices)
            for label, annotated in sets.items():
                unet = SlicePredictor.of(load_checkpoint(unets[label, fold]), profile)
                of_val, of_tested = (_probabilities(unet, split, slices) for slices in (val, tested))
                own_val = require_masks(annotated)[val.rows] > 0
                yield Answer(label, of_tested, _best_threshold(of_val, own_val, val, grid))
            few_scans = {str(plan.scans): few[plan] for plan in planned if plan.fold == fold}
            for scans, path in {**few_scans, "all": full[fold]}.items():
                unet = SlicePredictor.of(load_checkpoint(path), profile)
                of_tested = _probabilities(unet, split, tested)
                yield Answer(f"unet_{scans}", of_tested, chosen[fold, scans])
                if scans in few_scans:
                    of_both = (of_tested + _stored(weak_maps, "hgi_sam_refined", tested)) / 2
                    of_val = (_probabilities(unet, split, val) + _stored(weak_maps, "hgi_sam_refined", val)) / 2
                    yield Answer(f"mixed_{scans}", of_both, _best_threshold(of_val, val.truth, val, grid), by_slices)
            for name in sorted(LABEL_OF.keys() & system_maps.keys()):
                of_val, of_tested = (_stored(system_maps, name, slices) for slices in (val, tested))
                at_half = name in AT_ONE_HALF
                yield Answer(name, of_tested, 0.5 if at_half else _best_threshold(of_val, val.truth, val, grid))

        dice_tables, mask_tables, label_tables = [], [], []
        for fold in tqdm(folds, desc="ladder", unit="fold"):
            split = by_fold(data, fold)
            val, test = (_bleeding(split, role) for role in ("val", "test"))
            tested = _with_healthy_scans(split, test)
            for answer in answers(fold, split, val, tested):
                maps, threshold = answer.maps[: len(test.rows)], np.array([answer.threshold])
                dice = dice_curve(maps, test.truth, test.brain, threshold)[:, 0]
                dice_tables.append(_by_slice(answer.method, fold, data, test, dice))
                mask_tables.append(_masks_by_slice(answer, fold, data, tested))
            for label, annotated in sets.items():
                own = _overlap(require_masks(annotated)[test.rows] > 0, test)
                label_tables.append(_by_slice(label, fold, data, test, own))
        ladder = pd.concat(dice_tables, ignore_index=True)
        ladder.to_parquet(folder / "dice.parquet", index=False)
        pd.concat(mask_tables, ignore_index=True).to_parquet(folder / "masks.parquet", index=False)
        pd.concat(label_tables, ignore_index=True).to_parquet(folder / "labels.parquet", index=False)
        write_json(folder / "units.json", labels_used(sorted(set(ladder["method"])), data, cohort, profile))

    return run.make(
        "price/table",
        work,
        code=["hgisam_book.studies.method_comparison", "hgisam_book.studies.prices"],
        sections=("study", "maps", "evaluate", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "cohort": sha256_of(run.folder("prepared") / COHORT),
            "maps": read_manifest(mapped)["outputs"]["maps.zarr"],
            "exam": read_manifest(exam)["outputs"]["maps.zarr"],
            "scores": read_manifest(mapped)["outputs"]["scores.parquet"],
            "scores of exams": read_manifest(exam)["outputs"]["scores.parquet"],
            "operating point": read_manifest(trained)["outputs"]["model.json"],
            "operating point of exams": read_manifest(trained_on_exams)["outputs"]["model.json"],
            "refined": read_manifest(refined)["outputs"]["maps.zarr"],
            "budget": read_manifest(budget)["outputs"]["dice.parquet"],
            **{f"maps of {source.parent.name}": read_manifest(source)["outputs"]["maps.zarr"] for source in others},
            **weights_of([*unets.values(), *few.values(), *full.values()]),
        },
    )


def _bleeding(split: PreparedDataset, role: str) -> Slices:
    rows, truth = bleeding_slices(split, role)
    return Slices(rows, truth, split.brain[rows])


def _with_healthy_scans(split: PreparedDataset, bleeding: Slices) -> Slices:
    """The bleeding test slices, and after them all slices of the test scans without a bleed."""
    rows = split.rows("test")
    studies = split.slices["study"]
    rows = rows[~studies.iloc[rows].isin(studies.iloc[bleeding.rows]).to_numpy()]
    joined = np.concatenate([bleeding.rows, rows])
    truth = np.concatenate([bleeding.truth, np.zeros((len(rows), *bleeding.truth.shape[1:]), np.bool_)])
    return Slices(joined, truth, np.concatenate([bleeding.brain, split.brain[rows]]))


def _classifier(mapped: Path, trained: Path) -> Classifier:
    scores = pd.read_parquet(mapped / "scores.parquet").set_index("row")["score"].sort_index()
    return Classifier(scores.to_numpy(), load_checkpoint(trained).detection_threshold)


def _thresholds_of_weak_methods(
    data: PreparedDataset, maps: ScoreMaps, prefix: str, profile: Profile
) -> dict[str, dict[int, float]]:
    """Method → fold → threshold, of the ladder's methods that have these maps."""
    methods = [name for name in candidates(maps) if prefix + name in LABEL_OF]
    chosen = choose_thresholds(data, maps, methods, count=profile.evaluate.thresholds)
    numbers = sorted(int(fold) for fold in data.slices["fold"].unique())
    return {name: dict(zip(numbers, about["folds"], strict=True)) for name, about in sorted(chosen.items())}


def _probabilities(segmenter: SlicePredictor, split: PreparedDataset, slices: Slices) -> Maps:
    """Probability of bleeding."""
    parts = [
        segmenter.maps(images, probability_of_bleeding, brain.shape[1]).astype(np.float32)
        for images, brain, _ in batches(segmenter, split, slices.rows)
    ]
    return np.concatenate(parts)


def _stored(maps: ScoreMaps, name: str, slices: Slices) -> Maps:
    return np.asarray(maps[name][0].oindex[slices.rows], np.float32)


def _best_threshold(of_val: Maps, chosen_on: Bools, val: Slices, grid: Grid) -> float:
    """The threshold with the best mean Dice of the validation slices; empty masks choose nothing."""
    chooses = chosen_on.any(axis=(1, 2))
    curves = dice_curve(of_val[chooses], chosen_on[chooses], val.brain[chooses], grid)
    return float(best_threshold(curves, grid)["threshold"])


def _overlap(masks: Bools, slices: Slices) -> Values:
    """Dice of masks."""
    return dice_curve(masks.astype(np.float32), slices.truth, slices.brain, MASK_GRID)[:, 0]


def _by_slice(method: str, fold: int, data: PreparedDataset, slices: Slices, dice: Values) -> pd.DataFrame:
    patient = data.slices["patient"].iloc[slices.rows].to_numpy()
    return pd.DataFrame({"method": method, "fold": fold, "patient": patient, "row": slices.rows, "dice": dice})


def _masks_by_slice(answer: Answer, fold: int, data: PreparedDataset, slices: Slices) -> pd.DataFrame:
    """Volume of the mask of each slice, empty where a classifier predicts no bleed, and score: see `ladder_step`."""
    about, classifier = data.slices.iloc[slices.rows], answer.classifier
    voxel_ml = about[["pixel_mm", "pixel_mm", "slice_mm"]].prod(axis=1).to_numpy() / 1000
    mask_ml = apply_threshold(answer.maps, answer.threshold, slices.brain).sum(axis=(1, 2)) * voxel_ml
    score = mask_ml if classifier is None else classifier.scores[slices.rows]
    if classifier is not None:
        mask_ml = mask_ml * (score >= classifier.threshold)
    found = {"method": answer.method, "fold": fold, "patient": about["patient"].to_numpy(), "row": slices.rows}
    return pd.DataFrame({**found, "bleeds": slices.truth.any(axis=(1, 2)), "mask_ml": mask_ml, "score": score})

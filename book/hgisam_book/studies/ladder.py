"""The ladder of labels: Dice of methods that learn from exams, slices, boxes, balls and masks, on the same slices.

The segmenter of boxes, balls and masks is always the same U-Net, so that only its labels differ. All methods are tested
on the bleeding slices of the same patients, those of the folds of the label budget.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.evaluation.masks import Grid, dice_curve, threshold_grid
from hgisam.evaluation.score_maps import MASK_GRID, MASK_RULES, THRESHOLD_BASELINES, ScoreMaps, read_score_maps
from hgisam.evaluation.thresholds import bleeding_slices
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
from hgisam_book.studies.method_comparison import batches, dice_at_best_threshold, dice_by_slice
from hgisam_book.studies.prices import AT_ONE_HALF, HALF, LABEL_OF, labels_used
from hgisam_book.studies.trainings import train_all
from hgisam_book.training_cohort import read_cohort_table

Maps = npt.NDArray[np.floating]  # [n, row, col], like masks
Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]  # [n], one per slice


class Bleeding(NamedTuple):
    """Bleeding slices of the validation or the test patients of a fold: rows [n], masks and brain [n, row, col]."""

    rows: npt.NDArray[np.int64]
    truth: Bools
    brain: npt.NDArray[np.uint8]


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
        `labels_used`.
    """
    run, others = Run(profile, runs_dir), [Path(source) for source in systems]
    data, cohort = open_step_data(run, "ct-ich"), read_cohort_table(run)
    exam, folds = exam_step(profile, runs_dir, take_from), budget_folds(data)
    sets = {label: coarse_set(coarse_set_step(profile, runs_dir, label)) for label in COARSE}
    unets: dict[tuple[str, int], Path] = {}
    for label in COARSE:
        trainings = {f"price/{label}/fold-{fold}": profile.variant("unet", [f"train.fold={fold}"]) for fold in folds}
        trained = train_all(trainings, runs_dir, label, take_from, sets[label])
        unets |= {(label, fold): path for fold, path in zip(folds, trained, strict=True)}
    mapped, refined = run.require("maps"), run.require("refined/maps")
    budget, passes = run.require("baselines/label_budget/table"), profile.variant("unet").train.passes
    planned, _ = plan_budgets(data, profile.study.label_budget, passes=passes, seed=profile.seed)
    few = {plan: run.require(plan.step) for plan in planned}

    def work(folder: Path) -> None:
        grid = threshold_grid(profile.evaluate.thresholds)
        weak_maps = read_score_maps(*(source / "maps.zarr" for source in (mapped, refined)))
        system_maps = read_score_maps(*(source / "maps.zarr" for source in others))
        tables = [
            _of_weak_methods(data, weak_maps, "", profile),
            _of_weak_methods(data, read_score_maps(exam / "maps.zarr"), "exam_", profile),
            pd.read_parquet(budget / "dice.parquet").assign(method=lambda table: "unet_" + table["budget"]),
        ]
        label_tables = []
        for fold in tqdm(folds, desc="ladder", unit="fold"):
            split = by_fold(data, fold)
            val, test = (_bleeding(split, role) for role in ("val", "test"))
            found: dict[str, Values] = {}
            for label, annotated in sets.items():
                own_val, own_test = (require_masks(annotated)[slices.rows] > 0 for slices in (val, test))
                unet = SlicePredictor.of(load_checkpoint(unets[label, fold]), profile)
                of_val, of_test = (_probabilities(unet, split, slices) for slices in (val, test))
                found[label] = _test_dice(of_val, of_test, own_val, val, test, grid)
                label_tables.append(_by_slice(label, fold, data, test, _overlap(own_test, test)))
            for plan in (plan for plan in planned if plan.fold == fold):
                unet = SlicePredictor.of(load_checkpoint(few[plan]), profile)
                of_val, of_test = (
                    (_probabilities(unet, split, slices) + _stored(weak_maps, "hgi_sam_refined", slices)) / 2
                    for slices in (val, test)
                )
                found[f"mixed_{plan.scans}"] = _test_dice(of_val, of_test, val.truth, val, test, grid)
            found[HALF] = _overlap(_stored(weak_maps, "hgi_sam_self_trained", test) >= 0.5, test)
            for name in sorted(LABEL_OF.keys() & system_maps.keys()):
                of_val, of_test = (_stored(system_maps, name, slices) for slices in (val, test))
                found[name] = (
                    _overlap(of_test >= 0.5, test)
                    if name in AT_ONE_HALF
                    else _test_dice(of_val, of_test, val.truth, val, test, grid)
                )
            tables += [_by_slice(name, fold, data, test, dice) for name, dice in found.items()]
        columns = ["method", "fold", "patient", "row", "dice"]
        ladder = pd.concat([table[columns] for table in tables], ignore_index=True)
        ladder.to_parquet(folder / "dice.parquet", index=False)
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
            "refined": read_manifest(refined)["outputs"]["maps.zarr"],
            "budget": read_manifest(budget)["outputs"]["dice.parquet"],
            **{f"maps of {source.parent.name}": read_manifest(source)["outputs"]["maps.zarr"] for source in others},
            **weights_of([*unets.values(), *few.values()]),
        },
    )


def _bleeding(split: PreparedDataset, role: str) -> Bleeding:
    rows, truth = bleeding_slices(split, role)
    return Bleeding(rows, truth, split.brain[rows])


def _of_weak_methods(data: PreparedDataset, maps: ScoreMaps, prefix: str, profile: Profile) -> pd.DataFrame:
    """Table of `dice_by_slice` of the ladder's methods that have these maps, on the test slices of its folds."""
    rules = {name for name, (source, _) in MASK_RULES.items() if source in maps}
    known = {*maps, *rules, *(() if prefix else THRESHOLD_BASELINES)}
    methods = sorted(name for name in known if prefix + name in LABEL_OF)
    table = dice_by_slice(data, maps, methods, count=profile.evaluate.thresholds)
    return table[table["fold"].isin(budget_folds(data))].assign(method=lambda found: prefix + found["method"])


def _probabilities(segmenter: SlicePredictor, split: PreparedDataset, slices: Bleeding) -> Maps:
    """Probability of bleeding."""
    parts = [
        segmenter.maps(images, probability_of_bleeding, brain.shape[1]).astype(np.float32)
        for images, brain, _ in batches(segmenter, split, slices.rows)
    ]
    return np.concatenate(parts)


def _stored(maps: ScoreMaps, name: str, slices: Bleeding) -> Maps:
    return np.asarray(maps[name][0].oindex[slices.rows], np.float32)


def _test_dice(of_val: Maps, of_test: Maps, chosen_on: Bools, val: Bleeding, test: Bleeding, grid: Grid) -> Values:
    """Dice of the test slices, at the threshold with the best mean Dice of the validation slices.

    Args:
        of_val, of_test: Maps of both.
        chosen_on: Masks of the validation slices that choose the threshold; empty ones choose nothing.
        val, test: The slices.
        grid: Candidate thresholds.
    """
    chooses = chosen_on.any(axis=(1, 2))
    validation = dice_curve(of_val[chooses], chosen_on[chooses], val.brain[chooses], grid)
    _, dice = dice_at_best_threshold(validation, dice_curve(of_test, test.truth, test.brain, grid), grid)
    return dice


def _overlap(masks: Bools, slices: Bleeding) -> Values:
    """Dice of masks."""
    return dice_curve(masks.astype(np.float32), slices.truth, slices.brain, MASK_GRID)[:, 0]


def _by_slice(method: str, fold: int, data: PreparedDataset, slices: Bleeding, dice: Values) -> pd.DataFrame:
    patient = data.slices["patient"].iloc[slices.rows].to_numpy()
    return pd.DataFrame({"method": method, "fold": fold, "patient": patient, "row": slices.rows, "dice": dice})

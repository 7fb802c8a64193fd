"""The price of a label: Dice of what each kind of annotation buys, and the minutes that it takes an annotator.

The segmenter of boxes, balls and masks is always the same U-Net, so that only its labels differ. All methods are tested
on the bleeding slices of the same patients, those of the folds of the label budget.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from hgisam.config.overrides import read_yaml
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold, require_masks
from hgisam.evaluation.masks import Grid, dice_curve, threshold_grid
from hgisam.evaluation.metrics import bootstrap_mean
from hgisam.evaluation.score_maps import MASK_RULES, THRESHOLD_BASELINES, ScoreMaps, read_score_maps
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import check_content, write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam.training.setup import subset_patients
from hgisam_book.recorded.reuse import train_or_reuse
from hgisam_book.studies.baselines import REPEATS, plan_budgets
from hgisam_book.studies.coarse_labels import boxes, coarse_set, coarse_set_step
from hgisam_book.studies.method_comparison import batches, dice_at_best_threshold, dice_by_slice
from hgisam_book.studies.trainings import train_all

SHIPPED = Path(__file__).with_name("prices.yaml")
COARSE = ("box", "ball")  # coarse labels on which a U-Net is trained
LABEL_OF = {  # method → what it learns from, beside thresholds; for budgets and mixtures see `label_of`
    "smooth_hu_threshold": "nothing",
    **dict.fromkeys(("exam_hgi_sam", "exam_hgi_sam_otsu", "exam_swin_sam", "exam_grad_cam"), "exam"),
    **dict.fromkeys(
        ("hgi_sam", "hgi_sam_otsu", "swin_sam", "grad_cam", "hgi_sam_density", "hgi_sam_refined", "self_trained_half"),
        "slice",
    ),
    **{label: label for label in COARSE},
}
HALF = "self_trained_half"  # the self-trained U-Net at a probability of one half: its threshold saw no mask
Units = dict[str, float]
Rows = npt.NDArray[np.int64]
Maps = Mapping[str, npt.NDArray[np.floating]]  # "val" and "test" → [n, row, col]


class Price(BaseModel):
    """Seconds for one label, what is counted, and where the figure is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Annotated[float, Field(gt=0)]
    per: Literal["scan", "slice", "box", "bleeding scan"]
    source: str


class Prices(BaseModel):
    """Content of `prices.yaml`: a price for each kind of label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exam: Price
    slice: Price
    box: Price
    ball: Price
    mask: Price

    def minutes(self, label: str, units: Units) -> float:
        """Minutes for the labels of one kind.

        Args:
            label: "exam", "slice", "box", "ball" or "mask".
            units: Numbers of what the label may be counted by, from `count_units`.
        """
        price: Price = getattr(self, label)
        by_hand = price.per in ("box", "bleeding scan")
        seconds = price.seconds * units[price.per] + (self.exam.seconds * units[self.exam.per] if by_hand else 0)
        return seconds / 60


def read_prices(path: str | Path = SHIPPED) -> Prices:
    """The prices of labels.

    Raises:
        InputError: If the file cannot be read, or lacks a price.
    """
    what = f"prices of labels {path}"
    return check_content(Prices, read_yaml(path, what), what, "the keys of prices.yaml", "Correct the file.")


def count_units(data: PreparedDataset, rows: Rows) -> Units:
    """Numbers of scans, slices, bleeding scans and, where there are masks, boxes around the bleeds of some slices."""
    part = data.slices.iloc[rows]
    bleeding = part.groupby("study")["any"].max()
    units: Units = {"scan": len(bleeding), "slice": len(part), "bleeding scan": int(bleeding.sum())}
    if data.mask is not None:
        units["box"] = sum(len(boxes(mask > 0)) for mask in data.mask[rows])
    return units


def label_of(method: str) -> str:
    """What a method learns from: "nothing", "exam", "slice", "box", "ball", "mask" or "slice and mask"."""
    if method.startswith("mixed_"):
        return "slice and mask"
    return "mask" if method.startswith("unet_") else LABEL_OF[method]


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


def train_on_coarse_labels(
    profile: Profile, runs_dir: str | Path, label: str, take_from: str | Path | None = None
) -> list[Path]:
    """U-Nets trained on boxes or balls, one for each fold of the label budget: `price/<label>/fold-<f>`."""
    data = coarse_set(coarse_set_step(profile, runs_dir, label))
    trainings = {f"price/{label}/fold-{f}": profile.variant("unet", [f"train.fold={f}"]) for f in _folds(data)}
    return train_all(trainings, runs_dir, label, take_from, data)


def ladder_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """Dice of every method of the ladder on the bleeding test slices of the label budget's folds.

    Args:
        profile: Of the run, which has its maps, baselines, label budget and refinement.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse trainings that are the same; None to train.

    Returns:
        `runs/<profile>/price/table`: `dice.parquet` with a row per method and slice (method, fold, patient, row, dice),
        `labels.parquet` with the Dice of the coarse labels' own masks, in the same columns, and `units.json`, method →
        role, "training" or "selection" → label → what it may be counted by, a mean over folds.
    """
    run = Run(profile, runs_dir)
    data, weak = open_step_data(run, "ct-ich"), open_step_data(run, "rsna")
    exam = exam_step(profile, runs_dir, take_from)
    networks_of = {label: train_on_coarse_labels(profile, runs_dir, label, take_from) for label in COARSE}
    sets = {label: coarse_set(coarse_set_step(profile, runs_dir, label)) for label in COARSE}
    mapped, refined = run.require("maps"), run.require("refined/maps")
    budget = run.require("baselines/label_budget/table")
    passes = profile.variant("unet").train.passes
    planned, _ = plan_budgets(data, profile.study.label_budget, passes=passes, seed=profile.seed)
    few = {(plan.scans, plan.fold): run.require(f"baselines/label_budget/{plan.scans}-scans/fold-{plan.fold}")
           for plan in planned}  # fmt: skip

    def work(folder: Path) -> None:
        grid = threshold_grid(profile.evaluate.thresholds)
        weak_maps = read_score_maps(*(source / "maps.zarr" for source in (mapped, refined)))
        tables = [
            _of_weak_methods(data, weak_maps, "", profile),
            _of_weak_methods(data, read_score_maps(exam / "maps.zarr"), "exam_", profile),
            pd.read_parquet(budget / "dice.parquet").assign(method=lambda table: "unet_" + table["budget"]),
        ]
        label_tables = []
        for fold in tqdm(_folds(data), desc="ladder", unit="fold"):
            split, rows = by_fold(data, fold), _bleeding(data, fold)
            found: dict[str, npt.NDArray[np.float64]] = {}
            for label, networks in networks_of.items():
                predicted = _probabilities(networks[_folds(data).index(fold)], profile, split, rows)
                own = {role: require_masks(sets[label])[mine] > 0 for role, mine in rows.items()}
                found[label] = _test_dice(predicted, rows, own["val"], split, grid)
                label_tables.append(_by_slice(label, fold, data, rows["test"], _overlap(own["test"], split, rows)))
            for scans in {scans for scans, of in few if of == fold}:
                masks = _probabilities(few[scans, fold], profile, split, rows)
                both: Maps = {
                    role: (masks[role] + _stored(weak_maps, "hgi_sam_refined", rows[role])) / 2 for role in masks
                }
                truth = require_masks(data)[rows["val"]] > 0
                found[f"mixed_{scans}"] = _test_dice(both, rows, truth, split, grid)
            own_net = _stored(weak_maps, "hgi_sam_self_trained", rows["test"]) >= 0.5
            found[HALF] = _overlap(own_net, split, rows)
            tables += [_by_slice(name, fold, data, rows["test"], dice) for name, dice in found.items()]
        columns = ["method", "fold", "patient", "row", "dice"]
        ladder = pd.concat([table[columns] for table in tables], ignore_index=True)
        ladder.to_parquet(folder / "dice.parquet", index=False)
        pd.concat(label_tables, ignore_index=True).to_parquet(folder / "labels.parquet", index=False)
        write_json(folder / "units.json", _units(sorted(set(ladder["method"])), data, weak, profile))

    trained = [path for networks in networks_of.values() for path in networks] + list(few.values())
    return run.make(
        "price/table",
        work,
        code=["hgisam_book.studies.method_comparison", "hgisam_book.studies.coarse_labels"],
        sections=("study", "maps", "evaluate", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "prepared/rsna": weak.fingerprint,
            "maps": read_manifest(mapped)["outputs"]["maps.zarr"],
            "exam": read_manifest(exam)["outputs"]["maps.zarr"],
            "refined": read_manifest(refined)["outputs"]["maps.zarr"],
            "budget": read_manifest(budget)["outputs"]["dice.parquet"],
            **{"/".join(path.parts[-3:]): read_manifest(path)["outputs"]["model.safetensors"] for path in trained},
        },
    )


def price_ladder(
    dice: pd.DataFrame, units: Mapping[str, Any], prices: Prices, *, count: int, seed: int
) -> pd.DataFrame:
    """Dice of every method beside the minutes of annotation that it takes.

    Args:
        dice: `dice.parquet` of `ladder_step`.
        units: `units.json` of it.
        prices: From `read_prices`.
        count, seed: As in `bootstrap_mean`.

    Returns:
        One row per method, cheapest first: label; training, selection and minutes, their sum; mean, low and high of the
        Dice per bleeding slice, with the 95 % interval over patients; frontier, True if no cheaper one is as good.
    """
    rows = []
    for method in dict.fromkeys(dice["method"]):
        part = dice[dice["method"] == method]
        minutes = {
            role: float(sum(prices.minutes(label, numbers) for label, numbers in units[method][role].items()))
            for role in ("training", "selection")
        }
        estimate = bootstrap_mean(part["dice"], part["patient"], count=count, seed=seed)
        low, high = estimate["ci95"] or (np.nan, np.nan)
        value = {"minutes": sum(minutes.values()), "mean": estimate["mean"], "low": low, "high": high}
        rows.append({"method": method, "label": label_of(method), **minutes, **value})
    table = pd.DataFrame(rows).sort_values(["minutes", "mean"], ascending=[True, False]).reset_index(drop=True)
    best_so_far = table["mean"].cummax().shift(fill_value=-np.inf)
    return table.assign(frontier=table["mean"] > best_so_far)


def best_of_each_label(ladder: pd.DataFrame) -> pd.DataFrame:
    """The row of `price_ladder` with the largest Dice of each kind of label, smallest Dice first."""
    return ladder.loc[ladder.groupby("label")["mean"].idxmax()].sort_values("mean").reset_index(drop=True)


def _folds(data: PreparedDataset) -> list[int]:
    return sorted(int(fold) for fold in data.slices["fold"].unique())[:REPEATS]


def _bleeding(data: PreparedDataset, fold: int) -> dict[str, Rows]:
    """Bleeding rows of the validation and test patients of a fold."""
    split, masks = by_fold(data, fold), require_masks(data)
    rows = {role: split.rows(role) for role in ("val", "test")}
    return {role: mine[(masks[mine] > 0).any(axis=(1, 2))] for role, mine in rows.items()}


def _of_weak_methods(data: PreparedDataset, maps: ScoreMaps, prefix: str, profile: Profile) -> pd.DataFrame:
    """Table of `dice_by_slice` of the ladder's methods that have these maps, on the test slices of its folds."""
    rules = {name for name, (source, _) in MASK_RULES.items() if source in maps}
    known = {*maps, *rules, *(() if prefix else THRESHOLD_BASELINES)}
    methods = [name for name in known if prefix + name in LABEL_OF]
    table = dice_by_slice(data, maps, sorted(methods), count=profile.evaluate.thresholds)
    return table[table["fold"].isin(_folds(data))].assign(method=lambda found: prefix + found["method"])


def _probabilities(
    network: Path, profile: Profile, split: PreparedDataset, rows: Mapping[str, Rows]
) -> dict[str, npt.NDArray[np.float32]]:
    """Probability of bleeding of a segmenter on the validation and test rows, each [n, row, col]."""
    predictor = SlicePredictor.of(load_checkpoint(network), profile)
    return {
        role: np.concatenate(
            [
                predictor.maps(images, probability_of_bleeding, brain.shape[1]).astype(np.float32)
                for images, brain, _ in batches(predictor, split, mine)
            ]
        )
        for role, mine in rows.items()
    }


def _stored(maps: ScoreMaps, name: str, rows: Rows) -> npt.NDArray[np.float32]:
    return np.asarray(maps[name][0].oindex[rows], np.float32)


def _test_dice(
    maps: Maps, rows: Mapping[str, Rows], chosen_on: npt.NDArray[np.bool_],
    data: PreparedDataset, grid: Grid,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Dice [n] of the test slices, at the threshold with the best mean Dice of the validation slices.

    Args:
        maps: "val" and "test" → [n, row, col].
        rows: "val" and "test" → rows.
        chosen_on: [n, row, col] masks of the validation slices that choose the threshold; empty ones choose nothing.
        data: The set with true masks.
        grid: Candidate thresholds.
    """
    chooses, truth = chosen_on.any(axis=(1, 2)), require_masks(data)[rows["test"]] > 0
    validation = dice_curve(maps["val"][chooses], chosen_on[chooses], data.brain[rows["val"][chooses]], grid)
    test = dice_curve(maps["test"], truth, data.brain[rows["test"]], grid)
    _, dice = dice_at_best_threshold(validation, test, grid)
    return dice


def _overlap(masks: npt.NDArray[np.bool_], data: PreparedDataset, rows: Mapping[str, Rows]) -> npt.NDArray[np.float64]:
    """Dice [n] of masks of the test slices."""
    truth = require_masks(data)[rows["test"]] > 0
    return dice_curve(masks.astype(np.float32), truth, data.brain[rows["test"]], np.array([0.5]))[:, 0]


def _by_slice(method: str, fold: int, data: PreparedDataset, rows: Rows, dice: npt.NDArray[np.float64]) -> pd.DataFrame:
    patient = data.slices["patient"].iloc[rows].to_numpy()
    return pd.DataFrame({"method": method, "fold": fold, "patient": patient, "row": rows, "dice": dice})


def _units(
    methods: Sequence[str], data: PreparedDataset, weak: PreparedDataset, profile: Profile
) -> dict[str, dict[str, dict[str, Units]]]:
    """Labels of each method by role: which set of slices is labelled in which way, a mean over the folds."""
    slices = {role: count_units(weak, weak.rows(role)) for role in ("train", "val")}
    splits = [by_fold(data, fold) for fold in _folds(data)]
    of_role = {role: _mean([count_units(split, split.rows(role)) for split in splits]) for role in ("train", "val")}

    def annotated(scans: str) -> Units:
        if scans == "all":
            return of_role["train"]
        subsets = [subset_patients(split, int(scans), profile.seed) for split in splits]
        return _mean([count_units(subset, subset.rows("train")) for subset in subsets])

    found: dict[str, dict[str, dict[str, Units]]] = {}
    for method in methods:
        label, scans = label_of(method), method.rpartition("_")[2]
        training: dict[str, Units] = {}
        selection: dict[str, Units] = {"mask": of_role["val"]}
        if label in ("exam", "slice", "slice and mask"):
            weak_label = label.split()[0]
            training[weak_label] = slices["train"]
            selection[weak_label] = slices["val"]
        if label in ("mask", "slice and mask"):
            training["mask"] = annotated(scans)
        if label in COARSE:
            training[label], selection = of_role["train"], {label: of_role["val"]}
        if method == HALF or method.endswith("_otsu"):
            del selection["mask"]
        found[method] = {"training": training, "selection": selection}
    return found


def _mean(units: Sequence[Units]) -> Units:
    return {key: float(np.mean([numbers[key] for numbers in units])) for key in units[0]}

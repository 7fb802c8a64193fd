"""What labels cost: prices, the labels that each method used, and Dice beside the minutes of an annotator."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from hgisam.config.overrides import read_yaml
from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset, by_fold
from hgisam.evaluation.metrics import bootstrap_mean, patient_weights
from hgisam.runs.files import check_content
from hgisam.training.setup import subset_patients
from hgisam_book.studies.baselines import budget_folds
from hgisam_book.studies.coarse_labels import COARSE, boxes

SHIPPED = Path(__file__).with_name("prices.yaml")
HALF = "self_trained_half"  # the self-trained U-Net at a probability of one half: its threshold saw no mask
SAM_MASKS = ("sam_box", "sam_point", "sam_point_box", "sam_box_mean", "sam_rectified")
LABEL_OF = {  # method → what it learns from, beside thresholds; for budgets and mixtures see `label_of`
    **dict.fromkeys(("smooth_hu_threshold", "rule_alone"), "nothing"),
    **dict.fromkeys(("exam_hgi_sam", "exam_hgi_sam_otsu", "exam_swin_sam", "exam_grad_cam", "exam_mil"), "exam"),
    **dict.fromkeys(("hgi_sam", "hgi_sam_otsu", "swin_sam", "grad_cam"), "slice"),
    **dict.fromkeys(("density_alone", "hgi_sam_density", "hgi_sam_refined", HALF), "slice"),
    **dict.fromkeys(("slice_mil", "resnet_slices", "resnet_lstm", "resnet_lstm_pseudo", "resnet_lstm_unet"), "slice"),
    **dict.fromkeys(("box", "box_otsu", *SAM_MASKS), "box"),
    **dict.fromkeys(("ball", "focal_segnet", "focal_segnet_crf"), "ball"),
}
# their masks are where a probability is one half, or follow from a rule: no threshold saw a mask
AT_ONE_HALF = (
    "rule_alone", "resnet_lstm_pseudo", "resnet_lstm_unet", "box_otsu", *SAM_MASKS, "focal_segnet", "focal_segnet_crf",
)  # fmt: skip
MASK_FREE = (HALF, "hgi_sam_otsu", "exam_hgi_sam_otsu", *COARSE, *AT_ONE_HALF)
Units = dict[str, float]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]


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


def labels_used(
    methods: Sequence[str], data: PreparedDataset, cohort: pd.DataFrame, profile: Profile
) -> dict[str, dict[str, dict[str, Units]]]:
    """Labels that each method of the ladder used, whichever way they are counted.

    Args:
        methods: Of the ladder.
        data: The set with masks.
        cohort: The exams with labels of slices and exams, from `read_cohort_table`.
        profile: Of the run.

    Returns:
        Method → role, "training" or "selection" (of epoch and threshold) → label → numbers from `count_units`, a mean
        over the folds of the label budget.
    """
    exams = {role: cohort[cohort["split"] == role] for role in ("train", "val")}
    slices: dict[str, Units] = {
        role: {"scan": len(part), "slice": int(part["slices"].sum()), "bleeding scan": int((part["any"] > 0).sum())}
        for role, part in exams.items()
    }
    splits = [by_fold(data, fold) for fold in budget_folds(data)]
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
        if method in MASK_FREE:
            selection.pop("mask", None)
        found[method] = {"training": training, "selection": selection}
    return found


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
        Dice per bleeding slice, with the 95 % interval over patients; frontier, True if no method that costs as much or
        less is as good; and frontier_share, the share of the bootstrap samples in which it is on the frontier.
    """
    methods, rows = list(dict.fromkeys(dice["method"])), []
    for method in methods:
        part = dice[dice["method"] == method]
        minutes = {
            role: float(sum(prices.minutes(label, numbers) for label, numbers in units[method][role].items()))
            for role in ("training", "selection")
        }
        estimate = bootstrap_mean(part["dice"], part["patient"], count=count, seed=seed)
        low, high = estimate["ci95"] or (np.nan, np.nan)
        value = {"minutes": sum(minutes.values()), "mean": estimate["mean"], "low": low, "high": high}
        rows.append({"method": method, "label": label_of(method), **minutes, **value})
    table = pd.DataFrame(rows)
    by_patient = dice.groupby(["patient", "method"])["dice"].agg(["sum", "count"]).unstack(fill_value=0)
    weights = patient_weights(len(by_patient), count, seed)
    means = (weights @ by_patient["sum"][methods].to_numpy()) / (weights @ by_patient["count"][methods].to_numpy())
    costs = table["minutes"].to_numpy()
    table["frontier"] = on_frontier(costs, table["mean"].to_numpy()[None])[0]
    table["frontier_share"] = on_frontier(costs, means).mean(axis=0)
    return table.sort_values(["minutes", "mean"], ascending=[True, False]).reset_index(drop=True)


def on_frontier(minutes: Floats, dice: Floats) -> npt.NDArray[np.bool_]:
    """Where no other method costs as much or less and has a Dice as good.

    Args:
        minutes: Of each method [n].
        dice: Of each method in each sample [samples, n].

    Returns:
        [samples, n].
    """
    as_cheap, as_good = minutes[None] <= minutes[:, None], dice[:, None] >= dice[:, :, None]
    on: npt.NDArray[np.bool_] = (as_cheap & as_good).sum(axis=-1) == 1  # the method itself
    return on


def best_of_each_label(ladder: pd.DataFrame) -> pd.DataFrame:
    """The row of `price_ladder` with the largest Dice of each kind of label, smallest Dice first."""
    return ladder.loc[ladder.groupby("label")["mean"].idxmax()].sort_values("mean").reset_index(drop=True)


def _mean(units: Sequence[Units]) -> Units:
    return {key: float(np.mean([numbers[key] for numbers in units])) for key in units[0]}

"""From phantoms to real heads: a classifier trained on phantoms, tested on prepared sets of real ones.

`ci/measure_real_heads.py` calls these functions and records their numbers; the chapter shows the record.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.evaluation.masks import HU_GRID, Brain, Floats, Grid, Masks, best_threshold, dice_curve, smoothed_hu
from hgisam.evaluation.score_maps import THRESHOLD_BASELINES
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam.maps import grad_cam, hgi_sam, hgi_sam_averaged, swin_sam, swin_sam_averaged
from hgisam_book.studies.coarse_labels import rows_by_study
from hgisam_book.studies.realism import soft_hu
from hgisam_book.studies.refinement import choose_slices, densities_of, density_threshold_of
from hgisam_scans.blood_density import FUSED, with_density
from hgisam_scans.networks import Network

METHODS: dict[str, Method] = {
    "hgi_sam": hgi_sam,
    "swin_sam": swin_sam,
    "hgi_sam_averaged": hgi_sam_averaged,
    "swin_sam_averaged": swin_sam_averaged,
    "grad_cam": grad_cam,
}
# products of maps concentrate near 0, probabilities of a segmenter do not
MAP_GRID = np.union1d(np.geomspace(1e-7, 1, 150), np.linspace(0.01, 1, 100))
SPREAD = ("hgi_sam", "swin_sam", "hgi_sam_averaged", "hgi_sam_density")  # compared between trainings
MIN_BRAIN_CM2 = 20.0
LEAD = 0.01  # of Dice; a smaller one we call a tie
USEFUL_AUROC = 0.9  # below it we do not call a separation reliable

Rows = npt.NDArray[np.int64]
Record = Mapping[str, Any]


def rows_with_brain(prepared: PreparedDataset) -> Rows:
    """Rows of the slices with at least `MIN_BRAIN_CM2` of brain.

    Raises:
        InputError: If there are none.
    """
    area_cm2 = (prepared.brain[:] > 0).sum(axis=(1, 2)) * prepared.slices["pixel_mm"].to_numpy() ** 2 / 100
    rows = np.flatnonzero(area_cm2 >= MIN_BRAIN_CM2)
    if not len(rows):
        expected = f"slices with {MIN_BRAIN_CM2:g} cm² of brain"
        raise InputError(f"slices of {prepared.path}", "too little brain", expected, "Use another set.")
    return rows


def bleeding_rows(prepared: PreparedDataset) -> Rows:
    """Rows of the slices with blood and enough brain.

    Raises:
        InputError: If the set has no masks, or no such slice.
    """
    masks, rows = require_masks(prepared), rows_with_brain(prepared)
    rows = rows[(masks[rows] > 0).any(axis=(1, 2))]
    if not len(rows):
        raise InputError(f"masks of {prepared.path}", "empty", "blood in some slice", "Use a set with bleeds.")
    return rows


def densities_at(prepared: PreparedDataset, rows: Rows) -> npt.NDArray[np.float32]:
    """Density [n, row, col] of some slices, from `hgisam_scans.blood_density.density_map` of their whole scans."""
    density = np.empty(prepared.hu[rows].shape, np.float32)
    for found, values in densities_of(prepared, rows):
        density[np.searchsorted(rows, found)] = values
    return density


def choose_density_threshold(training: PreparedDataset, seed: int = 0) -> float:
    """The density threshold of blood in HU, from the slice labels of a cohort like that of the training.

    Args:
        training: With slice labels.
        seed: Samples the slices, see `hgisam_book.studies.refinement.choose_slices`.
    """
    return density_threshold_of(training, densities_of(training, choose_slices(training.slices, seed)))[0]


def measure_bleeding(
    predictor: SlicePredictor, prepared: PreparedDataset, density_threshold_hu: float
) -> tuple[dict[str, Any], Floats]:
    """Dice of maps, of their fusion with density, and of HU thresholds on bleeding slices with masks, and the scores.

    Args:
        predictor: Of a classifier.
        prepared: A set with masks; slices without blood or with too little brain are left out.
        density_threshold_hu: From `choose_density_threshold`.

    Returns:
        Slices, and per method Dice and threshold, with the one threshold of the largest mean Dice on these very slices:
        the most that any threshold reaches, for each method alike. The scores [n] are probabilities of bleeding.

    Raises:
        InputError: If the set has no masks, or no slice with blood.
    """
    rows, masks = bleeding_rows(prepared), require_masks(prepared)
    hu, brain, truth = prepared.hu[rows], prepared.brain[rows], masks[rows] > 0
    maps, scores = predictor.predict(hu, brain, METHODS)
    pixel_mm = float(prepared.slices["pixel_mm"].iloc[0])
    dice = {name: best_dice(values.astype(np.float32), truth, brain, MAP_GRID) for name, values in maps.items()}
    density = densities_at(prepared, rows)
    fused: dict[str, Floats] = {"density_alone": np.ones_like(density)}
    fused |= {name: maps[method] for name, method in FUSED.items()}
    for name, values in fused.items():
        dice[name] = best_dice(with_density(values, density, density_threshold_hu), truth, brain, MAP_GRID)
    dice["hu_threshold"] = best_dice(soft_hu(hu), truth, brain, HU_GRID)
    dice["smooth_hu_threshold"] = best_dice(smoothed_hu(hu, brain, pixel_mm), truth, brain, HU_GRID)
    return {"slices": len(rows), "methods": dice} | _score_numbers(predictor, scores), scores


def measure_calibrated(networks: Sequence[Network], prepared: PreparedDataset) -> dict[str, dict[str, float]]:
    """Dice of the masks that `hgisam segment` makes: no mask of these heads chose a threshold.

    Args:
        networks: With the threshold of their calibration, one per method.
        prepared: As in `measure_bleeding`.

    Returns:
        Per method the threshold, and the mean Dice of the bleeding slices: "dice" of the masks of all, and "dice_gated"
        with an empty mask where the classifier sees no bleed.

    Raises:
        InputError: If the set has no masks, or no slice with blood.
    """
    rows, masks = bleeding_rows(prepared), require_masks(prepared)
    found = {}
    for network in networks:
        maps, scores = np.zeros(masks.shape, np.float32), np.zeros(len(masks))
        for scan in rows_by_study(prepared):
            own = network.predict(prepared.hu[scan], prepared.brain[scan], prepared.slices.iloc[scan])
            maps[scan], scores[scan] = own
        grid = np.array([network.threshold])
        dice = dice_curve(maps[rows], masks[rows] > 0, prepared.brain[rows], grid)[:, 0]
        gated = dice * (scores[rows] >= network.detection_threshold)  # an empty mask has none of the blood
        found[network.method] = {
            "threshold": network.threshold, "dice": float(dice.mean()), "dice_gated": float(gated.mean()),
        }  # fmt: skip
    return found


def best_dice(values: Floats, truth: Masks, brain: Brain, grid: Grid) -> dict[str, float]:
    """The threshold with the largest mean Dice, and this Dice; arrays [slice, row, col]."""
    found = best_threshold(dice_curve(values, truth, brain, grid), grid)
    return {"dice": found["validation_dice"], "threshold": found["threshold"]}


def measure_normal(predictor: SlicePredictor, prepared: PreparedDataset) -> tuple[dict[str, Any], Floats]:
    """Scores of the classifier on a head without a bleed: slices, their mean and largest score, and false alarms.

    Args:
        predictor: Of a classifier.
        prepared: Any set; slices with too little brain are left out.

    Returns:
        The numbers, and the scores [n].

    Raises:
        InputError: If a slice is labelled as bleeding.
    """
    if (prepared.slices["any"] == 1).any():
        raise InputError(f"labels of {prepared.path}", "bleeds", "a set without a bleed", "Give it as --bleeding.")
    rows = rows_with_brain(prepared)
    images = predictor.images(prepared.hu[rows], prepared.brain[rows])
    scores: Floats = predictor.task.score(predictor.logits(images)).double().cpu().numpy()
    return {"slices": len(rows)} | _score_numbers(predictor, scores), scores


def separation(bleeding: Floats, normal: Floats) -> float:
    """AUROC of the scores of bleeding slices [n] against those of normal ones [m]."""
    labels = np.repeat([1, 0], [len(bleeding), len(normal)])
    return float(roc_auc_score(labels, np.concatenate([bleeding, normal])))


def _score_numbers(predictor: SlicePredictor, scores: Floats) -> dict[str, Any]:
    above = int((scores >= predictor.checkpoint.detection_threshold).sum())
    return {"mean_score": float(scores.mean()), "largest_score": float(scores.max()), "above_operating_point": above}


def dice_table(record: Record, names: Mapping[str, str]) -> pd.DataFrame:
    """Dice and threshold of each method, one row per method.

    Args:
        record: Of `ci/measure_real_heads.py`.
        names: Method → name for readers.
    """
    methods = record["bleeding"]["methods"].items()
    rows = {
        names.get(m, m): {"Dice": f"{n['dice']:.2f}", "best threshold": f"{n['threshold']:.2g}"} for m, n in methods
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def score_table(record: Record) -> pd.DataFrame:
    """Scores of each set, bleeding first: slices, mean and largest score, slices predicted to bleed."""
    rows = {
        found["name"]: {
            "bleeds": "yes" if found is record["bleeding"] else "no",
            "slices": found["slices"],
            "mean score": f"{found['mean_score']:.2f}",
            "largest score": f"{found['largest_score']:.2f}",
            "predicted to bleed": f"{found['above_operating_point']} of {found['slices']}",
        }
        for found in (record["bleeding"], *record["normal"])
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def trainings_table(record: Record, names: Mapping[str, str]) -> pd.DataFrame:
    """Dice and AUROC of the shipped network and of each recorded one, which differ in seed, cohort and epochs."""
    return _trainings(record).rename(columns={"auroc": "AUROC", **names}).map("{:.2f}".format)


def spread(record: Record, names: Mapping[str, str]) -> str:
    """How far the trainings of `trainings_table` differ, in sentences."""
    table = _trainings(record)
    told = [
        f"{names.get(str(column), 'AUROC')} {of.min():.2f} to {of.max():.2f}, standard deviation {of.std():.2f}"
        for column, of in table.items()
    ]
    ahead = int((table["hgi_sam"] >= table["swin_sam"] + LEAD).sum())
    return (
        f"{len(table)} trainings: {'; '.join(told)}. By {LEAD} or more, {names['hgi_sam']} is ahead of "
        f"{names['swin_sam']} in {ahead} of them, and, fused with density, ahead of density alone in "
        f"{fused_ahead_of_density(record)}."
    )


def fused_ahead_of_density(record: Record) -> int:
    """In how many trainings the fusion of map and density is ahead of density alone by `LEAD`."""
    density = record["bleeding"]["methods"]["density_alone"]["dice"]
    return int((_trainings(record)["hgi_sam_density"] >= density + LEAD).sum())


def reading(record: Record, names: Mapping[str, str]) -> list[str]:
    """What a record shows, in sentences: maps against thresholds, false alarms, separation."""
    dice = {method: numbers["dice"] for method, numbers in record["bleeding"]["methods"].items()}
    groups = ([*METHODS, *FUSED], [*THRESHOLD_BASELINES, "density_alone"])
    network, untrained = (max(group, key=dice.__getitem__) for group in groups)
    gap = round(dice[network] - dice[untrained], 2)
    place = f"{abs(gap):.2f} {'ahead of' if gap > 0 else 'behind'}" if gap else "level with"
    best_map, best_other = names.get(network, network), names.get(untrained, untrained)
    sentences = [f"The best map ({best_map}) is {place} the best method without a network ({best_other}) in Dice."]
    sentences += [
        f"At the threshold of its calibration on phantoms {names.get(method, method)} has a Dice of "
        f"{found['dice']:.2f}, {found['dice_gated']:.2f} where a slice without a predicted bleed has no mask."
        for method, found in record["bleeding"]["calibrated"].items()
    ]
    slices = sum(found["slices"] for found in record["normal"])
    alarms = sum(found["above_operating_point"] for found in record["normal"])
    sentences.append(
        f"At the operating point chosen on phantoms, {alarms} of {slices} slices of normal heads are predicted to "
        f"bleed: a specificity of {1 - alarms / slices:.2f}."
    )
    auroc = record["auroc"]
    verdict = "separates" if auroc >= USEFUL_AUROC else "does not separate"
    sentences.append(f"The classifier {verdict} bleeding slices from normal ones reliably: AUROC {auroc:.2f}.")
    return sentences


def _trainings(record: Record) -> pd.DataFrame:
    """Dice of `SPREAD` and auroc of each training, by its name and epochs."""
    shipped = {method: found["dice"] for method, found in record["bleeding"]["methods"].items()}
    rows = {f"{record['checkpoint']['name']}, shipped": {"dice": shipped, "auroc": record["auroc"]}}
    rows |= {f"{name}, {found['epochs']} epochs": found for name, found in record["recorded"]["trainings"].items()}
    return pd.DataFrame(
        {
            name: {method: found["dice"][method] for method in SPREAD} | {"auroc": found["auroc"]}
            for name, found in rows.items()
        }
    ).T

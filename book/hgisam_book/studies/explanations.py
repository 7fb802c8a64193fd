"""Quality of explanations: every map method judged without a mask and with one, and whether the two agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import dice_curve, threshold_grid
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import Method, SlicePredictor, resize
from hgisam.maps import METHODS
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.studies.deletion_insertion import SHARES, ranks, scores_by_share
from hgisam_book.studies.method_comparison import Rows, batches, bleeding_rows, estimates
from hgisam_book.studies.sanity import map_similarity, randomized_networks

SLICES = 8  # at most: some methods take hundreds of forward passes per slice and map
NOISE = 0.1  # largest change of a standardised pixel
CRITERIA = {  # metric → what it measures, and whether more is better
    "insertion less deletion": ("faithfulness", True),
    "sensitivity": ("robustness", False),
    "rank correlation": ("randomization", False),
    "mass in the bleed": ("localization", True),
    "top pixels in the bleed": ("localization", True),
    "Gini index": ("complexity", True),
}
Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def judge_explanations(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    grid: npt.NDArray[np.float64],
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Criteria of explanations, and Dice, of every method on the same slices; three maps per method and slice.

    Args:
        predictor, prepared, methods, grid: As in `dice_curves`.
        rows: [n] bleeding slices.
        bootstrap, seed: As in `estimates`; the seed is also that of the noise, of the random weights and of ties.

    Returns:
        One row per method and metric: method, metric, mean, low, high. Within the brain:
        "insertion less deletion": area under the insertion curve less that under the deletion curve, see
            `deletion_and_insertion`.
        "sensitivity": change of the map, relative to its norm, when uniform noise of at most `NOISE` is added to the
            standardised slice; Max-Sensitivity (Yeh et al., NeurIPS 2019) with one sample.
        "rank correlation": Spearman's, with the map of the network with random weights (Adebayo et al., NeurIPS 2018).
        "mass in the bleed", "top pixels in the bleed": share of the sum of the map that is in the annotated bleed, and
            share of its highest pixels that are, as many as the bleed has (Arras et al., Information Fusion 2022).
        "Gini index": sparseness of the map, 0 for a constant one (Chalasani et al., ICML 2020).
        "dice": at the threshold that is best on the same slices, an upper bound.
    """
    *_, (_, untrained) = randomized_networks(predictor.checkpoint, seed=seed)
    other = predictor.with_checkpoint(untrained)
    generator = np.random.default_rng(seed)
    found: dict[tuple[str, str], list[Floats]] = {}
    for images, brain, truth in batches(predictor, prepared, rows):
        size, shape = brain.shape[1], images.shape
        noise = torch.from_numpy(generator.uniform(-NOISE, NOISE, shape).astype(np.float32)).to(images.device)
        ties = torch.from_numpy(generator.random((shape[0], *shape[2:]), dtype=np.float32)).to(images.device)
        for name, method in methods.items():
            maps, moved, random = (
                reader.maps(given, method, size).astype(np.float32)
                for reader, given in ((predictor, images), (predictor, images + noise), (other, images))
            )
            values = {"insertion less deletion": _faithfulness(predictor, images, brain, maps, ties)}
            values |= _of_maps(maps, moved, random, brain > 0, truth)
            values["dice"] = dice_curve(maps, truth, brain, grid)
            for metric, each in values.items():
                found.setdefault((name, metric), []).append(each)
    records = []
    for (name, metric), parts in found.items():
        value = np.concatenate(parts)
        value = value[:, value.mean(axis=0).argmax()] if metric == "dice" else value
        records.append({"method": name, "metric": metric, "value": value})
    return estimates(records, prepared, rows, bootstrap=bootstrap, seed=seed)


def _faithfulness(
    predictor: SlicePredictor, images: Tensor, brain: npt.NDArray[np.uint8], maps: Floats, ties: Tensor
) -> Floats:
    """Area under the insertion curve less that under the deletion curve, [n]."""
    size = images.shape[2]
    inside = resize(torch.from_numpy(brain).to(images.device).float(), size) >= 0.5
    small = resize(torch.from_numpy(maps).to(images.device), size)
    curves = scores_by_share(predictor, images, inside, ranks(small, inside, ties))
    return np.asarray(np.trapezoid(curves["insertion"] - curves["deletion"], SHARES, axis=1))


def _of_maps(maps: Floats, moved: Floats, random: Floats, inside: Bools, truth: Bools) -> dict[str, Floats]:
    """Metrics [n] that follow from the maps alone, all arrays [n, H, W]."""
    rows: dict[str, list[float]] = {}
    for a, b, c, brain, bleed in zip(maps, moved, random, inside, truth, strict=True):
        each = {
            "sensitivity": sensitivity(a[brain], b[brain]),
            "rank correlation": map_similarity(a, c, brain)[0],
            "mass in the bleed": mass_inside(a[brain], bleed[brain]),
            "top pixels in the bleed": top_inside(a[brain], bleed[brain]),
            "Gini index": gini(a[brain]),
        }
        for metric, value in each.items():
            rows.setdefault(metric, []).append(value)
    return {metric: np.array(values) for metric, values in rows.items()}


def sensitivity(values: Floats, moved: Floats) -> float:
    """Norm of the change of a map, relative to its own norm; 0 for two maps of zeros, 1 if only the first is one."""
    norm, change = float(np.linalg.norm(values)), float(np.linalg.norm(moved - values))
    return change / norm if norm else float(change > 0)


def mass_inside(values: Floats, bleed: Bools) -> float:
    """Share of the sum of a map ≥ 0 that is in the bleed; of a map of zeros, that of a constant one."""
    total = float(values.sum())
    return float(values[bleed].sum()) / total if total else float(bleed.mean())


def top_inside(values: Floats, bleed: Bools) -> float:
    """Share of the highest pixels that are in the bleed, as many as it has; of pixels that tie, their mean share."""
    count = int(bleed.sum())
    if not count:
        return 0.0
    lowest = np.sort(values)[-count]
    above, tied = values > lowest, values == lowest
    return float((bleed & above).sum() + (count - above.sum()) * bleed[tied].mean()) / count


def gini(values: Floats) -> float:
    """Gini index of values ≥ 0: 0 if all are equal, towards 1 if one has everything."""
    ordered, count = np.sort(values.astype(np.float64)), len(values)
    if not ordered.sum():
        return 0.0
    shares = (ordered / ordered.sum()) @ (count - np.arange(1, count + 1) + 0.5) / count
    return float(1 - 2 * shares)


def agreement_with_dice(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation over methods of each criterion with Dice: does a better explanation segment better?

    Args:
        table: From `judge_explanations`.

    Returns:
        One row per metric of `CRITERIA`: criterion, spearman, p_value. A positive correlation means that methods which
        are better by the metric segment better, also where less is better; NaN where all methods tie.
    """
    means = table.pivot(index="method", columns="metric", values="mean")
    rows: dict[str, dict[str, Any]] = {}
    for metric, (criterion, more) in CRITERIA.items():
        known = means[metric].nunique() > 1 and means["dice"].nunique() > 1
        found = spearmanr(means[metric] if more else -means[metric], means["dice"]) if known else (np.nan, np.nan)
        rows[metric] = {"criterion": criterion, "spearman": float(found[0]), "p_value": float(found[1])}
    return pd.DataFrame(rows).T.rename_axis("metric")


def explanations_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Every map method judged on bleeding test slices of `ct-ich`; returns `runs/<profile>/explanations`."""
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    trained = run.require("train")

    def work(folder: Path) -> None:
        rows = bleeding_rows(data, "test", most=SLICES, seed=profile.seed)
        table = judge_explanations(
            SlicePredictor.of(load_checkpoint(trained), profile), data, methods_of(profile.maps, METHODS), rows,
            grid=threshold_grid(profile.evaluate.thresholds), bootstrap=profile.evaluate.bootstrap, seed=profile.seed,
        )  # fmt: skip
        table.to_parquet(folder / "explanations.parquet", index=False)

    return run.make(
        "explanations",
        work,
        code=["hgisam_book.studies.explanations"],
        sections=("maps", "evaluate", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "train": read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )

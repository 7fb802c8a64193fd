"""Sanity checks of maps: cascading randomization, shuffled labels, pointing game, deletion and insertion."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from hgisam.attention import find_swin
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import dice_curve
from hgisam.evaluation.metrics import hit
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import build_network
from hgisam_book.studies.deletion_insertion import deletion_and_insertion
from hgisam_book.studies.method_comparison import Maps, Rows, batches, estimates

TRAINED, SHUFFLED = "trained", "shuffled labels"
MAX_SLICES = 40  # for the checks that need a hundred forward passes per slice
POINTING_MM = (0.0, 5.0)  # tolerances of a hit: distance from the bleed
Truth = npt.NDArray[np.bool_]


def sanity_checks(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    grid: npt.NDArray[np.float64],
    bootstrap: int,
    seed: int,
    shuffled: Checkpoint | None = None,
) -> pd.DataFrame:
    """All sanity checks, in one table.

    Args:
        predictor, prepared, methods, grid, bootstrap, seed, shuffled: As in `cascading_randomization`.
        rows: [n] bleeding slices; for all but the pointing game at most `MAX_SLICES` of them, evenly spaced.

    Returns:
        test, method, at, metric, mean, low, high; see the checks.
    """
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_SLICES)).astype(int)]
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    tests = [
        cascading_randomization(predictor, prepared, methods, few, grid=grid, shuffled=shuffled, **options),
        deletion_and_insertion(predictor, prepared, methods, few, **options),
        pointing_game(predictor, prepared, methods, rows, **options),
    ]
    return pd.concat(tests, ignore_index=True)


def randomized_networks(checkpoint: Checkpoint, *, seed: int) -> Iterator[tuple[str, Checkpoint]]:
    """The network with more and more random weights: the head, then stage after stage, down to the patch embedding.

    Args:
        checkpoint: A trained classifier; left as it was.
        seed: Of the random weights.

    Yields:
        The part that was randomized last, and the network with random weights in it and all parts above.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, cascading randomization.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initial = build_network(checkpoint.profile).state_dict()
    weights = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    stages = range(len(find_swin(checkpoint.model).stages))
    parts = {"head": ("head.", "norm."), **{f"stage {s + 1}": (f"layers.{s}.",) for s in reversed(stages)}}
    for name, prefixes in (parts | {"patches": ("patch_embed.",)}).items():
        weights |= {key: value for key, value in initial.items() if key.startswith(prefixes)}
        model = copy.deepcopy(checkpoint.model)
        model.load_state_dict(weights)
        yield name, replace(checkpoint, model=model.eval())


def cascading_randomization(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    grid: npt.NDArray[np.float64],
    bootstrap: int,
    seed: int,
    shuffled: Checkpoint | None = None,
) -> pd.DataFrame:
    """Similarity of maps to those of the trained network, and Dice, while its weights are randomized part by part.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        grid: [T] ascending thresholds.
        bootstrap, seed: As in `estimates`; the seed is also that of the random weights.
        shuffled: The same network trained on shuffled labels, if there is one.

    Returns:
        One row per method, step and metric: test "randomization", method, at, metric, mean, low, high. `at` is
        "trained", the part that was randomized last, or "shuffled labels". Metrics, over slices, intervals over
        patients: "spearman" and "ssim" (see `map_similarity`) with the map of the trained network; "dice" at the
        threshold that is best on the same slices, an upper bound that does not depend on the scale of the map.
    """
    networks = [(TRAINED, predictor.checkpoint), *randomized_networks(predictor.checkpoint, seed=seed)]
    networks += [(SHUFFLED, shuffled)] if shuffled is not None else []
    original: dict[str, Maps] = {}
    found = []
    for at, network in networks:
        maps, brain, truth = _maps(predictor.with_checkpoint(network), prepared, methods, rows)
        for name, values in maps.items():
            original.setdefault(name, values)  # the trained network comes first
            curve = dice_curve(values, truth, brain, grid)
            best = curve.mean(axis=0).argmax()
            similar = np.array([map_similarity(*of) for of in zip(original[name], values, brain > 0, strict=True)])
            measured = {"spearman": similar[:, 0], "ssim": similar[:, 1], "dice": curve[:, best]}
            base = {"test": "randomization", "method": name, "at": at}
            found += [base | {"metric": metric, "value": value} for metric, value in measured.items()]
    return estimates(found, prepared, rows, bootstrap=bootstrap, seed=seed)


def pointing_game(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Pointing game: share of slices whose map has its maximum in the annotated bleed, or near it.

    Of tied maxima, the share that hits counts. The method "chance" is a random pixel of the brain.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        bootstrap, seed: As in `estimates`.

    Returns:
        One row per method and tolerance: test "pointing game", method, at (the tolerance in mm), metric ("hits"), mean,
        low, high.

    Source: Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016.
    """
    maps, brain, truth = _maps(predictor, prepared, methods, rows)
    maps["chance"] = np.ones(brain.shape, np.float32)
    pixel_mm = prepared.slices["pixel_mm"].iloc[rows].to_numpy()
    found = []
    for name, values in maps.items():
        for within_mm in POINTING_MM:
            hits = [hit(*of, within_mm=within_mm) for of in zip(values, truth, brain > 0, pixel_mm, strict=True)]
            at = {"test": "pointing game", "method": name, "at": f"{within_mm:g} mm"}
            found.append(at | {"metric": "hits", "value": hits})
    return estimates(found, prepared, rows, bootstrap=bootstrap, seed=seed)


def _maps(
    predictor: SlicePredictor, prepared: PreparedDataset, methods: Mapping[str, Method], rows: Rows
) -> tuple[dict[str, Maps], npt.NDArray[np.uint8], Truth]:
    """Name → maps, and brain and truth of the slices, all [n, H, W]."""
    parts: dict[str, list[Maps]] = {name: [] for name in methods}
    seen: list[tuple[Any, Any]] = []
    for images, brain, truth in batches(predictor, prepared, rows):
        seen.append((brain, truth))
        for name, method in methods.items():
            parts[name].append(predictor.maps(images, method, brain.shape[1]).astype(np.float32))
    brains, truths = (np.concatenate(each) for each in zip(*seen, strict=True))
    return {name: np.concatenate(each) for name, each in parts.items()}, brains, truths


def map_similarity(a: Maps, b: Maps, inside: Truth) -> tuple[float, float]:
    """Similarity of two maps within the brain, from the ranks of their pixels there; all arrays [H, W].

    Products of maps are close to 0, where the structural similarity of any two is nearly 1; ranks are uniform.

    Returns:
        Spearman's rank correlation, and the mean structural similarity (SSIM) of the ranks; both 0 where one of the
        maps is constant.
    """
    if not inside.any() or np.ptp(a[inside]) == 0 or np.ptp(b[inside]) == 0:
        return 0.0, 0.0
    ranked = np.zeros((2, *inside.shape))
    for image, values in zip(ranked, (a, b), strict=True):
        image[inside] = rankdata(values[inside]) / inside.sum()
    _, each = structural_similarity(*ranked, data_range=1.0, full=True)  # type: ignore[no-untyped-call]
    return float(np.corrcoef(ranked[:, inside])[0, 1]), float(each[inside].mean())

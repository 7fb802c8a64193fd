"""Do maps show what the network has learnt? Tests that need no eye: randomise it, shuffle its labels, point."""

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

from hgisam.attention.swin import find_swin, stages_of
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import dice_curve
from hgisam.evaluation.metrics import hit
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam.models.checkpoint import Checkpoint
from hgisam.models.networks import build_network
from hgisam_book.studies.deletion_insertion import removal
from hgisam_book.studies.method_comparison import Maps, Rows, batches, estimates

TRAINED, SHUFFLED = "trained", "shuffled labels"
MOST_SLICES = 40  # for the tests that look at each of them a hundred times
POINTING_MM = (0.0, 5.0)  # how far from the bleed a hit may be
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
    """All tests of this module, and removal.

    Args:
        predictor, prepared, methods, grid, bootstrap, seed, shuffled: As in `randomisation`.
        rows: [n] bleeding slices; of many, `MOST_SLICES` spread evenly are taken.

    Returns:
        test, method, at, metric, mean, low, high; see the tests.
    """
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_SLICES)).astype(int)]
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    tests = [
        randomisation(predictor, prepared, methods, few, grid=grid, shuffled=shuffled, **options),
        removal(predictor, prepared, methods, few, **options),
        pointing(predictor, prepared, methods, rows, **options),
    ]
    return pd.concat(tests, ignore_index=True)


def randomised(checkpoint: Checkpoint, *, seed: int) -> Iterator[tuple[str, Checkpoint]]:
    """The network with more and more of its weights drawn afresh, from the head down to the patches.

    Args:
        checkpoint: A trained classifier; left as it was.
        seed: Of the fresh weights.

    Yields:
        What was randomised last, and the network with that and all above it untrained.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, cascading randomisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build_network(checkpoint.profile).state_dict()
    weights = {key: value.clone() for key, value in checkpoint.model.state_dict().items()}
    stages = range(len(stages_of(find_swin(checkpoint.model))))
    parts = {"head": ("head.", "norm."), **{f"stage {s + 1}": (f"layers.{s}.",) for s in reversed(stages)}}
    for name, prefixes in (parts | {"patches": ("patch_embed.",)}).items():
        weights |= {key: value for key, value in fresh.items() if key.startswith(prefixes)}
        model = copy.deepcopy(checkpoint.model)
        model.load_state_dict(weights)
        yield name, replace(checkpoint, model=model.eval())


def randomisation(
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
    """How much a map still resembles itself when the network forgets, and how much Dice is left.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        grid: [T] ascending thresholds.
        bootstrap, seed: As in `estimates`; the seed is also that of the random weights.
        shuffled: The same network trained on labels that were dealt out at random, if there is one.

    Returns:
        A row a method, step and metric: test "randomisation", method, at, metric, mean, low, high. `at` is "trained",
        the part that was randomised last, or "shuffled labels". Metrics, over slices, intervals over patients:
        "spearman" and "ssim" (see `likeness`) of the map with that of the trained network; "dice" at the threshold that
        is best on these very slices, so that a map can't seem broken only because its scale changed.
    """
    networks = [(TRAINED, predictor.checkpoint), *randomised(predictor.checkpoint, seed=seed)]
    networks += [(SHUFFLED, shuffled)] if shuffled is not None else []
    whole: dict[str, Maps] = {}
    found = []
    for at, network in networks:
        maps, brain, truth = _maps(predictor.with_checkpoint(network), prepared, methods, rows)
        for name, values in maps.items():
            whole.setdefault(name, values)  # the trained network comes first
            curve = dice_curve(values, truth, brain, grid)
            best = curve.mean(axis=0).argmax()
            like = np.array([likeness(*of) for of in zip(whole[name], values, brain > 0, strict=True)])
            measured = {"spearman": like[:, 0], "ssim": like[:, 1], "dice": curve[:, best]}
            base = {"test": "randomisation", "method": name, "at": at}
            found += [base | {"metric": metric, "value": value} for metric, value in measured.items()]
    return estimates(found, prepared, rows, bootstrap=bootstrap, seed=seed)


def pointing(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """How often a map is highest in the drawn bleed, or near it.

    Where several pixels share the maximum, the share of them that hits counts. "any pixel" is what a pixel drawn at
    random from the brain scores.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        bootstrap, seed: As in `estimates`.

    Returns:
        A row a method and tolerance: test "pointing", method, at (the tolerance in mm), metric ("hits"), mean, low,
        high.

    Source: Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016.
    """
    maps, brain, truth = _maps(predictor, prepared, methods, rows)
    maps["any pixel"] = np.ones(brain.shape, np.float32)
    pixel_mm = prepared.slices["pixel_mm"].iloc[rows].to_numpy()
    found = []
    for name, values in maps.items():
        for within_mm in POINTING_MM:
            hits = [hit(*of, within_mm=within_mm) for of in zip(values, truth, brain > 0, pixel_mm, strict=True)]
            at = {"test": "pointing", "method": name, "at": f"{within_mm:g} mm"}
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


def likeness(a: Maps, b: Maps, inside: Truth) -> tuple[float, float]:
    """How alike two maps are within the brain, both as the ranks of their pixels there; all arrays [H, W].

    Products of maps lie near 0, where the structural similarity of any two is nearly 1; their ranks are even.

    Returns:
        Spearman's rank correlation, and the mean structural similarity of the ranks; 0 where one of the maps is
        constant, which tells nothing.
    """
    if not inside.any() or np.ptp(a[inside]) == 0 or np.ptp(b[inside]) == 0:
        return 0.0, 0.0
    ranked = np.zeros((2, *inside.shape))
    for image, values in zip(ranked, (a, b), strict=True):
        image[inside] = rankdata(values[inside]) / inside.sum()
    _, each = structural_similarity(*ranked, data_range=1.0, full=True)  # type: ignore[no-untyped-call]
    return float(np.corrcoef(ranked[:, inside])[0, 1]), float(each[inside].mean())

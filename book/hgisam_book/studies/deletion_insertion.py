"""Deletion and insertion curves: the effect of the highest pixels of a map on the score."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from hgisam.data.prepared import PreparedDataset
from hgisam.inference.predictor import Method, SlicePredictor, resize
from hgisam_book.studies.method_comparison import Rows, batches, estimates

SHARES = np.linspace(0, 1, 15) ** 2  # of the brain that are deleted or inserted, denser near 0
Floats = npt.NDArray[np.floating]


def deletion_and_insertion(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Score against the share of brain pixels that are deleted, or inserted, in the descending order of a map.

    Deletion replaces the highest pixels by the mean of the brain, share by share: with a map that shows the evidence of
    the classifier, the score falls early. Insertion starts from the mean and restores the highest pixels first. Two
    references: pixels in random order, and the annotated bleed first.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        bootstrap, seed: As in `estimates`; the seed also orders pixels of equal value.

    Returns:
        One row per test ("deletion", "insertion"), method and share: test, method, at (the share), metric ("score"),
        mean, low, high; and for each method the area under the curve, metric "auc", at "all".

    Source: Petsiuk et al., RISE, BMVC 2018; departs from it in deleting within the brain only, with its mean as the
        blank in place of a blurred image.
    """
    generator = np.random.default_rng(seed)
    scores: dict[tuple[str, str], list[Floats]] = {}
    for images, brain, truth in batches(predictor, prepared, rows):
        size = images.shape[2]
        inside, bleed = (resize(torch.from_numpy(a).to(images.device).float(), size) >= 0.5 for a in (brain, truth))
        noise = torch.from_numpy(generator.random(inside.shape, dtype=np.float32)).to(images.device)
        orders = {"annotated bleed first": bleed.float(), "random order": torch.zeros_like(noise)}
        for name, method in methods.items():
            orders[name] = torch.from_numpy(predictor.maps(images, method, size)).to(noise)
        for name, values in orders.items():
            for test, curve in scores_by_share(predictor, images, inside, ranks(values, inside, noise)).items():
                scores.setdefault((test, name), []).append(curve)
    found = []
    for (test, name), parts in scores.items():
        curves = np.concatenate(parts)  # [n, shares]
        base = {"test": test, "method": name}
        steps = zip(SHARES, curves.T, strict=True)
        found += [base | {"at": f"{share:.4f}", "metric": "score", "value": value} for share, value in steps]
        found.append(base | {"at": "all", "metric": "auc", "value": np.trapezoid(curves, SHARES, axis=1)})
    return estimates(found, prepared, rows, bootstrap=bootstrap, seed=seed)


def ranks(values: Tensor, inside: Tensor, noise: Tensor) -> Tensor:
    """Share of the brain that is higher than each of its pixels: [B, H, W] in [0, 1), 0 for the highest; 2 outside.

    Args:
        values: [B, H, W].
        inside: [B, H, W] bool.
        noise: [B, H, W]; random order of tied pixels, which would otherwise be ordered row by row.
    """
    ranked = torch.full_like(values, 2.0)
    for i, mask in enumerate(inside):
        order = np.lexsort((noise[i][mask].cpu().numpy(), -values[i][mask].cpu().numpy()))
        place = torch.empty(len(order), dtype=values.dtype)
        place[torch.from_numpy(order)] = torch.arange(len(order), dtype=values.dtype) / max(len(order), 1)
        ranked[i][mask] = place.to(values.device)
    return ranked


def scores_by_share(predictor: SlicePredictor, images: Tensor, inside: Tensor, order: Tensor) -> dict[str, Floats]:
    """Scores [B, shares] after deletion, and insertion, of pixels in an order [B, H, W] from `ranks`."""
    count = inside.sum(dim=(1, 2)).clamp_min(1)
    mean = ((images * inside[:, None]).sum(dim=(2, 3)) / count[:, None])[..., None, None]  # [B, C, 1, 1]
    scores: dict[str, list[Tensor]] = {"deletion": [], "insertion": []}
    for share in SHARES:
        first = (order < share)[:, None]
        rest = inside[:, None] & ~first
        for test, blank in (("deletion", first), ("insertion", rest)):
            changed = torch.where(blank, mean, images)
            scores[test].append(predictor.task.score(predictor.logits(changed)).double().cpu())
    return {test: torch.stack(values, dim=1).numpy() for test, values in scores.items()}

"""Deletion and insertion: does the decision rest on what a map shows first?"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from hgisam.data.prepared import PreparedDataset
from hgisam.inference.predictor import Method, SlicePredictor, resize
from hgisam_book.studies.method_comparison import Rows, batches, estimates

REMOVED = np.linspace(0, 1, 15) ** 2  # shares of the brain, closer together where the first pixels go
Floats = npt.NDArray[np.floating]


def removal(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    methods: Mapping[str, Method],
    rows: Rows,
    *,
    bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """What becomes of the score when pixels of the brain go, or come, in the order of a map.

    Deletion replaces the highest pixels by the mean of the brain, share by share: a map that shows what the decision
    rests on makes the score fall early. Insertion starts from the mean and brings the highest pixels back. Two
    references: pixels in random order, and the drawn bleed first.

    Args:
        predictor, prepared, methods: As in `dice_curves`.
        rows: [n] bleeding slices.
        bootstrap, seed: As in `estimates`; the seed also orders pixels of equal value.

    Returns:
        A row a test ("deletion", "insertion"), method and share removed or inserted: test, method, at (the share),
        metric ("score"), mean, low, high; and for each method the area under the curve, metric "auc", at "all".

    Source: Petsiuk et al., RISE, BMVC 2018; departs from it in taking the brain for the image, and its mean for a blur.
    """
    generator = np.random.default_rng(seed)
    scores: dict[tuple[str, str], list[Floats]] = {}
    for images, brain, truth in batches(predictor, prepared, rows):
        size = images.shape[2]
        inside, drawn = (resize(torch.from_numpy(a).to(images.device).float(), size) >= 0.5 for a in (brain, truth))
        noise = torch.from_numpy(generator.random(inside.shape, dtype=np.float32)).to(images.device)
        orders = {"drawn bleed first": drawn.float(), "random order": torch.zeros_like(noise)}
        for name, method in methods.items():
            orders[name] = torch.from_numpy(predictor.maps(images, method, size)).to(noise)
        for name, values in orders.items():
            for test, curve in removed_scores(predictor, images, inside, ranks(values, inside, noise)).items():
                scores.setdefault((test, name), []).append(curve)
    found = []
    for (test, name), parts in scores.items():
        curves = np.concatenate(parts)  # [n, shares]
        base = {"test": test, "method": name}
        steps = zip(REMOVED, curves.T, strict=True)
        found += [base | {"at": f"{share:.4f}", "metric": "score", "value": value} for share, value in steps]
        found.append(base | {"at": "all", "metric": "auc", "value": np.trapezoid(curves, REMOVED, axis=1)})
    return estimates(found, prepared, rows, bootstrap=bootstrap, seed=seed)


def ranks(values: Tensor, inside: Tensor, noise: Tensor) -> Tensor:
    """Which share of the brain is higher than each of its pixels: [B, H, W] in [0, 1), 0 for the highest; 2 outside.

    Args:
        values: [B, H, W].
        inside: [B, H, W] bool.
        noise: [B, H, W]; decides between pixels of equal value, which would otherwise go row by row.
    """
    ranked = torch.full_like(values, 2.0)
    for i, mask in enumerate(inside):
        order = np.lexsort((noise[i][mask].cpu().numpy(), -values[i][mask].cpu().numpy()))
        place = torch.empty(len(order), dtype=values.dtype)
        place[torch.from_numpy(order)] = torch.arange(len(order), dtype=values.dtype) / max(len(order), 1)
        ranked[i][mask] = place.to(values.device)
    return ranked


def removed_scores(predictor: SlicePredictor, images: Tensor, inside: Tensor, order: Tensor) -> dict[str, Floats]:
    """Scores [B, shares] when pixels are deleted, or inserted, in an order [B, H, W] from `ranks`."""
    count = inside.sum(dim=(1, 2)).clamp_min(1)
    mean = ((images * inside[:, None]).sum(dim=(2, 3)) / count[:, None])[..., None, None]  # [B, C, 1, 1]
    scores: dict[str, list[Tensor]] = {"deletion": [], "insertion": []}
    for share in REMOVED:
        first = (order < share)[:, None]
        rest = inside[:, None] & ~first
        for test, blank in (("deletion", first), ("insertion", rest)):
            changed = torch.where(blank, mean, images)
            scores[test].append(predictor.task.score(predictor.logits(changed)).double().cpu())
    return {test: torch.stack(values, dim=1).numpy() for test, values in scores.items()}

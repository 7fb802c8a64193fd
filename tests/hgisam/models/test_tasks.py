"""Losses by hand, scores, and validation metrics of each task."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from hgisam.config.profile import Train, load_profile
from hgisam.data.batches import Batch
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.models.tasks import TASKS


def settings(**changes: object) -> Train:
    """Section `train` of the smoke profile, changed."""
    return load_profile("smoke").train.model_copy(update=changes)


def batch_of(labels: list[list[int]], mask: torch.Tensor | None = None) -> Batch:
    """Slices without content."""
    n = len(labels)
    return Batch(torch.arange(n), torch.zeros(n, 4, 4), torch.ones(n, 4, 4), torch.tensor(labels), mask)


def test_binary_loss_by_hand() -> None:
    task = TASKS["binary"]
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])  # bleeding with probability 3/4
    target = task.target(batch_of([[1, 0, 0, 0, 0, 1], [0] * 6]))
    assert target.tolist() == [1, 0]
    np.testing.assert_allclose(task.score(logits), [0.75, 0.75], rtol=1e-6)
    plain = np.array([-math.log(0.75), -math.log(0.25)])
    np.testing.assert_allclose(task.loss(logits, target, settings()), plain, rtol=1e-6)
    focal = task.loss(logits, target, settings(focal_gamma=2.0))
    np.testing.assert_allclose(focal, plain * np.array([0.25**2, 0.75**2]), rtol=1e-5)
    smooth = task.loss(logits, target, settings(label_smoothing=0.2))
    np.testing.assert_allclose(smooth, 0.9 * plain + 0.1 * plain[::-1], rtol=1e-6)


def test_published_loss_has_a_lower_bound() -> None:
    task, target = TASKS["binary"], torch.tensor([1])
    certain = torch.tensor([[-100.0, 100.0]])
    assert task.loss(certain, target, settings()).item() < 1e-6
    published = task.loss(certain, target, settings(recipe="published")).item()
    np.testing.assert_allclose(published, math.log(1 + math.exp(-1)), rtol=1e-5)  # 0.313
    np.testing.assert_allclose(task.score(certain), [1.0])


def test_subtype_loss_by_hand() -> None:
    task = TASKS["subtype"]
    assert task.classes == LABELS
    target = task.target(batch_of([[1, 0, 1, 0, 0, 0]]))
    logits = torch.tensor([[math.log(3.0)] + [0.0] * 5])
    plain = (-math.log(0.75) + 5 * math.log(2)) / 6
    np.testing.assert_allclose(task.loss(logits, target, settings()), [plain], rtol=1e-6)
    focal = (-math.log(0.75) * 0.25 + 5 * math.log(2) * 0.5) / 6
    np.testing.assert_allclose(task.loss(logits, target, settings(focal_gamma=1.0)), [focal], rtol=1e-6)
    np.testing.assert_allclose(task.measure(logits, target), [[0.75] + [0.5] * 5], rtol=1e-6)
    assert task.score(logits).tolist() == task.measure(logits, target)[:, 0].tolist()
    assert task.loss(logits, target, settings(label_smoothing=0.1)) > plain


def test_segmentation_loss_and_dice_by_hand() -> None:
    task = TASKS["segmentation"]
    mask = torch.zeros(3, 4, 4, dtype=torch.uint8)
    mask[0, :2], mask[1, 0] = 5, 2
    target = task.target(batch_of([[0] * 6] * 3, mask))
    assert target.unique().tolist() == [0, 1]
    perfect = torch.stack([1.0 - target, target.float()], dim=1) * 200 - 100
    assert task.loss(perfect, target, settings())[:2].max() < 1e-4
    wrong = task.loss(-perfect, target, settings())
    assert wrong.shape == (3,)
    assert wrong.min() > 100
    top_half = torch.zeros(3, 2, 4, 4)
    top_half[:, 1, :2], top_half[:, 1, 2:] = 1.0, -1.0
    score, dice = task.measure(top_half, target).T
    np.testing.assert_allclose(score, torch.sigmoid(torch.tensor([1.0] * 3)), rtol=1e-6)
    np.testing.assert_allclose(dice, [1.0, 2 * 4 / (8 + 4), np.nan], rtol=1e-6)
    assert task.metrics(pd.DataFrame({"dice": dice.numpy()})) == {"val_dice": pytest.approx((1 + 2 / 3) / 2)}
    with pytest.raises(ValueError, match="masks"):
        task.target(batch_of([[0] * 6]))


def test_validation_metrics() -> None:
    table = pd.DataFrame(0, index=range(4), columns=[*LABELS])
    table["any"] = table["subdural"] = [0, 0, 1, 1]
    table["score"], scores = [0.1, 0.4, 0.35, 0.8], {f"score_{name}": 0.5 for name in SUBTYPES}
    table = table.assign(**scores).assign(score_subdural=[0.1, 0.2, 0.3, 0.4])
    assert TASKS["binary"].metrics(table) == {"val_auroc": 0.75}
    assert TASKS["subtype"].metrics(table) == {"val_auroc": 0.75, "val_auroc_types": 1.0}
    assert TASKS["subtype"].metrics(table[[*LABELS, "score", *scores]].assign(subdural=0))["val_auroc_types"] == 0.5

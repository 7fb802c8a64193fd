"""The brain mask of a simple head with known ground truth, with noise, artefacts and a craniectomy, and of phantoms."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from data_prep.brain import brain_mask
from data_prep.mask_agreement import brain_agreement
from data_prep.phantom import make_patient
from data_prep.study import Settings

SPACING_MM = (5.0, 2.0, 2.0)


def plain_head(slice_mm: float = 5.0) -> tuple[Any, Any, Any]:
    """(HU, brain, blood beside the skull), pixels of 2 mm."""
    count = round(170 / slice_mm)
    z, y, x = np.indices((count, 120, 110)).astype(np.float32)
    z, y, x = (z - count / 2) * slice_mm, (y - 60) * 2, (x - 55) * 2
    radius = np.sqrt((z / 80) ** 2 + (y / 95) ** 2 + (x / 76) ** 2)
    hu = np.full(radius.shape, -1000, np.float32)
    hu[radius < 1.13] = 20
    hu[radius < 1.06] = 900
    brain = radius < 0.97
    hu[brain] = 33
    blood = brain & (radius > 0.90) & (x > 30) & (np.abs(z) < 40)
    hu[blood] = 70
    return ndimage.gaussian_filter(hu, (0, 0.5, 0.5)), brain, blood


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def noisy(hu: Any, _: Any) -> Any:
    return hu + np.random.default_rng(0).normal(0, 25, hu.shape)


def craniectomy(hu: Any, brain: Any) -> Any:
    z, y, x = np.indices(hu.shape)
    flap = (x > 60) & (np.abs(y - 60) < 20) & (np.abs(z - len(hu) // 2) < 5)
    return np.where(flap & (hu > 100) & ~brain, 35, hu)


def head_rest(hu: Any, _: Any) -> Any:
    hu = hu.copy()
    hu[:, -3:] = 250
    return hu


def streaks(hu: Any, _: Any) -> Any:
    return hu + 40 * np.sin(np.arange(hu.shape[1]) / 3)[None, :, None] * (np.arange(len(hu)) < 8)[:, None, None]


@pytest.mark.parametrize(
    "change",
    [lambda hu, _: hu, noisy, craniectomy, head_rest, streaks],
    ids=["plain", "noisy", "craniectomy", "head rest", "streaks"],
)
def test_brain_of_a_plain_head(change: Any) -> None:
    hu, brain, blood = plain_head()
    found = brain_mask(change(hu, brain).astype(np.float32), SPACING_MM)
    assert dice(found, brain) > 0.95
    assert found[blood].mean() > 0.99


@pytest.mark.parametrize("slice_mm", [1.0, 2.5])
def test_thin_slices(slice_mm: float) -> None:
    hu, brain, blood = plain_head(slice_mm)
    found = brain_mask(hu, (slice_mm, 2.0, 2.0))
    assert dice(found, brain) > 0.94
    assert found[blood].mean() > 0.99


def test_one_slice_and_no_head() -> None:
    hu, brain, _ = plain_head()
    middle = slice(len(hu) // 2, len(hu) // 2 + 1)
    assert dice(brain_mask(hu[middle], SPACING_MM), brain[middle]) > 0.97
    assert not brain_mask(np.full((4, 50, 50), -1000, np.float32), SPACING_MM).any()
    assert not brain_mask(np.full((4, 50, 50), 1000, np.float32), SPACING_MM).any()


def test_brains_of_phantoms() -> None:
    known = ((7, 3), (7, 4), (2304, 0), (2304, 4))  # the second has the thinnest known subdural
    patients = (make_patient(seed, index, "evaluation", matrix=256) for seed, index in known)
    found = brain_agreement(patients, Settings("ct-ich", 192, 220.0))
    assert found["dice"].min() >= 0.97
    assert found["lesion_kept"].sum() >= 0.995 * found["lesion"].sum() > 0
    assert (found["missed"] < 0.01).all()

"""The brain mask on a plain head whose truth is known, with what scanners and surgeons do to it, and on phantoms."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from data_prep.brain import brain_mask
from data_prep.study import Settings, prepare_volume
from data_prep.volume import Remarks, Volume

SPACING_MM = (5.0, 2.0, 2.0)


def plain_head(slice_mm: float = 5.0) -> tuple[Any, Any, Any]:
    """(HU, brain, blood beside the skull); slices of 2 mm pixels."""
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


@pytest.mark.parametrize("change", [lambda hu, _: hu, noisy, craniectomy, head_rest, streaks], ids=str)
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


def test_brain_of_a_phantom() -> None:
    phantom = pytest.importorskip("data_prep.phantom")
    patient = phantom.make_patient(7, 4, "evaluation", matrix=128)  # with a thin subdural
    slice_mm, row_mm, col_mm = patient.spacing_mm
    count = len(patient.hu)

    def volume(mask: Any) -> Volume:
        return Volume(
            hu=patient.hu.astype(np.float32), mask=mask, labels=patient.labels.astype(np.int8), row_mm=row_mm,
            col_mm=col_mm, positions_mm=np.arange(count) * slice_mm, drift_px=np.zeros((count, 2)),
            source_index=np.arange(count), slice_mm=slice_mm, remarks=Remarks(),
        )  # fmt: skip

    settings = Settings("ct-ich", 128, 240.0)
    arrays, _, figures = prepare_volume(volume(patient.mask), settings)
    truth, _, _ = prepare_volume(volume(patient.brain), settings)
    assert dice(arrays["brain"] > 0, truth["mask"] > 0) > 0.95
    assert figures["lesion_voxels_outside_brain"] <= 0.03 * figures["lesion_voxels"]
    assert figures["brain_outside_field"] == 0

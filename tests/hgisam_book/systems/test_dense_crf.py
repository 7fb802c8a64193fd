"""Dense CRF: its filter is that of all pairs, and it reduces a ball to the dense bleed inside it."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logit

from hgisam.evaluation.metrics import dice
from hgisam_book.systems import dense_crf as crf
from hgisam_book.systems.dense_crf import BilateralGrid, dense_crf

PIXEL_MM = 2.0
POSITION_MM = 5.0 * np.arange(9)
Floats = npt.NDArray[np.floating]


def mean_of_all_pairs(points: Floats, values: Floats) -> Floats:
    """The oracle: n² pairs."""
    kernel = np.exp(-((points[:, None] - points) ** 2).sum(axis=-1) / 2)
    return kernel @ values / kernel.sum(axis=1)


@pytest.mark.parametrize("dimensions", [1, 3, 4])
def test_the_filter_is_that_of_all_pairs(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    points, values = rng.uniform(0, 3, (600, dimensions)), rng.random(600)
    values[points[:, 0] > 1.5] += 1  # a step, so that the mean differs from point to point
    error = BilateralGrid(points).mean(values) - mean_of_all_pairs(points, values)
    assert np.abs(error).max() < 0.02  # of a range of 2
    assert error.std() < 0.005


def test_filter_of_one_point_and_of_far_ones() -> None:
    assert BilateralGrid(np.zeros((1, 3))).mean(np.array([0.4])) == pytest.approx(0.4)
    np.testing.assert_allclose(BilateralGrid(np.array([[0.0], [20.0]])).mean(np.array([0.0, 1.0])), [0, 1], atol=1e-6)


def test_steps_of_mean_field_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    shape = (3, 9, 9)
    hu, probability = rng.uniform(25, 70, shape), rng.random(shape).astype(np.float32)
    brain, position = np.ones(shape, np.uint8), 5.0 * np.arange(3)
    at = np.argwhere(brain) * [5.0, PIXEL_MM, PIXEL_MM]
    kernels = (
        (crf.GAUSSIAN_WEIGHT, at / crf.GAUSSIAN_MM),
        (crf.BILATERAL_WEIGHT, np.column_stack([at / crf.BILATERAL_MM, hu.ravel() / crf.BILATERAL_HU])),
    )
    unary = logit(probability.ravel().astype(float))
    now = expit(unary)
    for steps in (1, 2, 3):
        now = expit(unary + sum(weight * (2 * mean_of_all_pairs(points, now) - 1) for weight, points in kernels))
        found = dense_crf(probability, hu, brain, position, PIXEL_MM, steps)
        np.testing.assert_allclose(found.ravel(), now, atol=0.06)


def oversized_ball(seed: int = 0) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32], Floats]:
    """A bleed of radius 10 mm, 30 HU denser than brain, with noise of 4 HU; a noisy ball of 16 mm around it."""
    rng = np.random.default_rng(seed)
    z, row, col = np.meshgrid(POSITION_MM - 20, *[(np.arange(48) - 24) * PIXEL_MM] * 2, indexing="ij")
    radius = np.sqrt(z**2 + row**2 + col**2)
    hu = 30 + 30 * (radius <= 10) + rng.normal(0, 4, radius.shape)
    probability = expit(np.where(radius <= 16, 2.5, -4) + rng.normal(0, 1, radius.shape)).astype(np.float32)
    return radius <= 10, probability, hu


@pytest.mark.parametrize("steps", [1, 5])
def test_an_oversized_ball_shrinks_to_the_bleed(steps: int) -> None:
    truth, probability, hu = oversized_ball()
    refined = dense_crf(probability, hu, np.ones(hu.shape, np.uint8), POSITION_MM, PIXEL_MM, steps)

    def dice_of(values: Floats) -> float:
        found = values >= 0.5
        return dice((found & truth).sum(), found.sum(), truth.sum())

    assert dice_of(probability) < 0.5
    assert dice_of(refined) > 0.95


def test_without_contrast_it_does_not_find_the_bleed() -> None:
    truth, probability, hu = oversized_ball()
    refined = dense_crf(probability, hu - 30.0 * truth, np.ones(hu.shape, np.uint8), POSITION_MM, PIXEL_MM)
    inside, ring = refined[truth].mean(), refined[(probability > 0.5) & ~truth].mean()
    assert inside - ring < 0.3


def test_outside_the_brain_nothing_counts() -> None:
    _, probability, hu = oversized_ball()
    brain = np.ones(hu.shape, np.uint8)
    brain[:, 30:] = 0
    refined = dense_crf(probability, hu, brain, POSITION_MM, PIXEL_MM)
    assert not refined[:, 30:].any()
    other = dense_crf(probability, np.where(brain, hu, 2000), brain, POSITION_MM, PIXEL_MM)
    np.testing.assert_array_equal(refined, other)
    assert not dense_crf(probability, hu, np.zeros_like(brain), POSITION_MM, PIXEL_MM).any()
    assert refined.dtype == np.float32

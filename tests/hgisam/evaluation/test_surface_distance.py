"""Hausdorff distances of simple shapes, calculated by hand."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from hgisam.evaluation.surface_distance import hd95_mm


def square(at: int, side: int = 10) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[10 : 10 + side, at : at + side] = True
    return mask


def test_a_shifted_square_is_as_far_as_it_was_shifted() -> None:
    found, truth = np.stack([square(10), square(10)]), np.stack([square(10), square(15)])
    assert hd95_mm(found, truth, np.array([0.5, 0.8])).tolist() == pytest.approx([0, 5 * 0.8])


def test_no_distance_where_a_mask_is_empty() -> None:
    empty = square(0) & False
    found, truth = np.stack([square(10), empty, empty]), np.stack([empty, square(10), empty])
    assert np.isnan(hd95_mm(found, truth, np.ones(3))).all()


def test_it_is_the_percentile_of_all_distances_between_contours() -> None:
    """Against every pair of contour pixels; a far speck is less than a twentieth, and does not count."""
    truth, found = square(10, 20), square(14, 20)
    found[60, 60] = True
    contours = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (found, truth)]
    apart = cdist(*contours)
    expected = max(np.percentile(apart.min(axis=axis), 95) for axis in (0, 1))
    got = hd95_mm(found[None], truth[None], np.ones(1))[0]
    assert got == pytest.approx(expected)
    assert got == hd95_mm(truth[None], found[None], np.ones(1))[0] < 10 < apart.min(axis=1).max()

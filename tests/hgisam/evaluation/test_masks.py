"""Thresholds, denoised HU, and resampling to the native grid."""

import numpy as np

from hgisam.evaluation.masks import apply_threshold, best_threshold, dice_curve, smoothed_hu, threshold_grid
from hgisam.evaluation.metrics import dice


def test_dice_curve_is_the_dice_of_the_mask_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    maps, truth, brain = (
        rng.random((4, 9, 9)),
        rng.random((4, 9, 9)) < 0.2,
        (rng.random((4, 9, 9)) < 0.8).astype("uint8"),
    )
    maps[0, 0, :3] = threshold_grid(10)[4]  # a value on the threshold counts
    grid = threshold_grid(10)
    curve = dice_curve(maps, truth, brain, grid)
    for i in range(4):
        for t, threshold in enumerate(grid):
            found = apply_threshold(maps, threshold, brain)[i]
            assert curve[i, t] == dice((found & truth[i]).sum(), found.sum(), truth[i].sum())


def test_best_threshold() -> None:
    chosen = best_threshold(np.array([[0.1, 0.5, 0.2], [0.3, 0.4, 0.9]]), np.array([0.2, 0.4, 0.8]))
    assert chosen["threshold"] == 0.8
    np.testing.assert_allclose(chosen["dice"], [0.2, 0.45, 0.55])
    assert chosen["n_slices"] == 2


def test_smoothing_averages_noise_within_the_soft_tissue_only() -> None:
    rng = np.random.default_rng(0)
    hu = rng.normal(30, 8, (2, 32, 32)).astype(np.int16)
    hu[:, :, 24:] = 900
    brain = np.ones(hu.shape, dtype=np.uint8)
    brain[:, :4] = 0
    smoothed = smoothed_hu(hu, brain, 1.0)
    tissue = (brain > 0) & (hu < 100)
    assert smoothed[tissue].std() < 0.35 * hu[tissue].std()
    assert abs(smoothed[:, 8:28, 23].mean() - 30) < 1  # no bone in the mean of tissue beside it
    assert (smoothed[~tissue] == -1000).all()  # bone is not blood
    np.testing.assert_array_equal(smoothed[:1], smoothed_hu(hu[:1], brain[:1], 1.0))

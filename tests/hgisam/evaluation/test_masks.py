"""Thresholds, denoised HU, and resampling to the native grid."""

import numpy as np

from hgisam.evaluation.masks import apply_threshold, best_threshold, dice_curve, smoothed_hu, threshold_grid, to_native
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


def test_back_to_the_native_grid() -> None:
    row = {"native_rows": 8, "native_cols": 6, "native_row0": 0.5, "native_col0": 0.5, "native_step_row": 2.0,
           "native_step_col": 2.0}  # fmt: skip
    prepared = np.zeros((4, 3))
    prepared[1, 2] = 1
    native = to_native(prepared, row, order=0)
    assert native.shape == (8, 6)
    assert {tuple(at) for at in np.argwhere(native)} == {(2, 4), (3, 4)}  # (2, 5) is beyond the last prepared center
    ramp = np.repeat(np.arange(4.0)[:, None], 3, axis=1)
    np.testing.assert_allclose(to_native(ramp, row)[1:7, 2], (np.arange(1, 7) - 0.5) / 2)


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

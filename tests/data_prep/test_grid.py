"""Resampling weights, positions and masks, with values worked out by hand."""

import numpy as np
import pytest

from data_prep.grid import Grid, Resampler, pixel_weights
from data_prep.volume import Remarks, Volume


def volume(hu: object, mask: object = None, mm: float = 1.0, drift: object = None) -> Volume:
    values = np.asarray(hu, np.float32)
    n = len(values)
    return Volume(
        hu=values, mask=None if mask is None else np.asarray(mask, bool), labels=np.zeros((n, 6), np.int8), row_mm=mm,
        col_mm=mm, positions_mm=np.arange(n) * 5.0, drift_px=np.zeros((n, 2)) if drift is None else np.asarray(drift),
        source_index=np.arange(n), slice_mm=5.0, remarks=Remarks(),
    )  # fmt: skip


def test_weights_average_what_a_pixel_covers() -> None:
    # pixels of 2 over pixels of 1: each is the mean of two
    assert np.array_equal(pixel_weights(0.5, 2.0, 2, 4).toarray(), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    # pixels of 1.5: one whole and one half
    assert np.allclose(pixel_weights(0.25, 1.5, 2, 3).toarray(), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    # finer pixels interpolate
    assert np.allclose(pixel_weights(0.0, 0.5, 3, 2).toarray(), [[1, 0], [0.5, 0.5], [0, 1]])


@pytest.mark.parametrize("step", [0.4, 1.0, 1.3, 3.7, 12.0])
def test_weights_sum_to_one_inside(step: float) -> None:
    rows = pixel_weights(40.0, step, 8, 200).sum(axis=1)
    assert np.allclose(rows, 1)


def test_noise_averages_and_outside_is_air() -> None:
    rng = np.random.default_rng(0)
    noisy = volume(rng.normal(0, 16, (2, 64, 64)))
    hu = Resampler(noisy, Grid.centred((31.5, 31.5), 16, 4.0)).hu()
    assert hu.std() == pytest.approx(4, rel=0.1)  # 16 pixels each
    wide = Resampler(noisy, Grid.centred((31.5, 31.5), 20, 4.0)).hu()
    assert (wide[:, :2] == -1024).all()
    assert np.allclose(wide[:, 2:-2, 2:-2], hu, atol=1e-3)


def test_grid_pixels_map_back_to_native_pixels() -> None:
    image = np.full((1, 50, 60), -1000)
    image[0, 10, 40] = 1000
    source = volume(image, mm=0.5)
    grid = Grid.centred((10 * 0.5, 40 * 0.5), 33, 0.5)
    hu = Resampler(source, grid).hu()
    assert np.argwhere(hu[0] > 0).tolist() == [[16, 16]]
    first, step_row, step_col = grid.native(source)
    assert first[0] + 16 * np.array([step_row, step_col]) == pytest.approx([10, 40])


def test_drifting_slices_are_aligned() -> None:
    image = np.full((2, 40, 40), -1000)
    image[0, 20, 20] = image[1, 14, 20] = 1000
    source = volume(image, drift=[[0, 0], [6, 0]])
    hu = Resampler(source, Grid.covering(source, 1.0)).hu()
    places = [np.argwhere(plane > 0).tolist() for plane in hu]
    assert places[0] == places[1]
    assert hu.shape == (2, 46, 40)


def test_half_a_pixel_counts_and_no_lesion_vanishes() -> None:
    mask = np.zeros((3, 16, 16), bool)
    mask[0, 0:4, 0:2] = True  # half of the first pixel
    mask[0, 8:12, 0:1] = True  # a quarter of another, but joined to nothing
    mask[1, 8, 1] = True  # joined to the one above: the same lesion
    resampler = Resampler(volume(np.zeros((3, 16, 16)), mask), Grid.centred((7.5, 7.5), 4, 4.0))
    found = resampler.lesion()
    assert np.argwhere(found).tolist() == [[0, 0, 0], [0, 2, 0]]
    assert resampler.lost_fraction_of_lesion() == pytest.approx(0, abs=1e-6)


def test_a_lesion_outside_the_field_is_measured() -> None:
    mask = np.zeros((1, 16, 16), bool)
    mask[0, 7, [0, 8]] = True
    resampler = Resampler(volume(np.zeros((1, 16, 16)), mask), Grid.centred((7.5, 7.5), 8, 1.0))
    assert resampler.lesion().sum() == 1
    assert resampler.lost_fraction_of_lesion() == pytest.approx(0.5)

"""Statistics of head CT on discs with known rim, noise and blood."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam_book.studies import realism
from hgisam_book.studies.realism import (
    UNITS,
    bleed_statistics,
    core_percentiles,
    noise_and_grain,
    per_slice,
    rim_profile,
    summarize,
    threshold_dice,
)

Head = tuple[np.ndarray, np.ndarray, np.ndarray]
SIZE, RADIUS = 144, 60


def head(rim: float = 50, core: float = 34) -> Head:
    """One slice at 1 mm: a disc of brain in a ring of bone, `rim` HU up to 4 mm from bone, else `core`."""
    row, col = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    radius = np.hypot(row, col)
    hu = np.where(radius <= RADIUS - 4.5, core, rim)
    hu = np.where(radius > RADIUS, np.where(radius < RADIUS + 6, 1000, -1000), hu)
    brain = (radius <= RADIUS).astype(np.uint8)
    return hu[None], brain[None], np.zeros_like(brain[None])


def test_the_rim_of_a_disc() -> None:
    (profile,) = rim_profile(*head(), pixel_mm=1.0)
    assert profile.shape == (15,)
    np.testing.assert_allclose(profile[:3], 50)  # 1 to 4 mm
    np.testing.assert_allclose(profile[5:], 34)


def test_millimetres_not_pixels() -> None:
    hu, brain, blood = head()
    (profile,) = rim_profile(hu, brain, blood, pixel_mm=2.0)
    np.testing.assert_allclose(profile[[1, 3, 5]], 50)  # the rim is 4 pixels wide, 8 mm
    assert profile[11] == 34
    assert np.isnan(profile[0])  # no pixel lies between 1 and 2 mm


def test_blood_and_its_margin_do_not_count() -> None:
    hu, brain, blood = head()
    bleeding = hu.copy()
    blood[0, 60:84, 120:133] = 1
    bleeding[blood > 0] = 90
    bleeding[0, 58:60, 122:130] = 80  # within the margin
    np.testing.assert_array_equal(rim_profile(bleeding, brain, blood, 1.0), rim_profile(hu, brain, blood, 1.0))


def test_little_brain_has_no_rim_and_no_core() -> None:
    hu, brain, blood = head()
    assert np.isnan(rim_profile(hu, brain, blood, pixel_mm=0.5)).all()  # 28 cm²
    assert np.isnan(core_percentiles(hu, brain, blood, pixel_mm=0.5)).all()


def test_a_slice_without_bone_has_a_core_and_no_rim() -> None:
    hu, brain, blood = head()
    hu[hu > 100] = 40
    assert np.isnan(rim_profile(hu, brain, blood, 1.0)).all()
    assert core_percentiles(hu, brain, blood, 1.0)[0, 1] == 34


def test_the_core_leaves_out_rim_and_blood() -> None:
    hu, brain, blood = head(rim=90)
    hu[0, 70:75, 70:75], blood[0, 70:75, 70:75] = 80, 1
    np.testing.assert_array_equal(core_percentiles(hu, brain, blood, 1.0), [[34, 34, 34]])


@pytest.mark.parametrize("sigma_px", [0.0, 0.6])
def test_noise_and_its_grain_are_those_of_the_filter(sigma_px: float) -> None:
    delta = np.zeros((31, 31))
    delta[15, 15] = 1
    kernel = gaussian_filter(delta, sigma_px)
    kernel -= gaussian_filter(kernel, realism.NOISE_SIGMA_PX)  # white noise passes through it
    variance = (kernel**2).sum()
    hu, brain, blood = head(rim=34)
    white = np.random.default_rng(0).normal(0, 4, (20, SIZE, SIZE))
    noisy = np.where(hu == 34, hu + gaussian_filter(white, (0, sigma_px, sigma_px)), hu)
    found = noise_and_grain(noisy, np.repeat(brain, 20, axis=0), np.repeat(blood, 20, axis=0), 1.0).mean(axis=0)
    assert found[0] == pytest.approx(4 * np.sqrt(variance), rel=0.02)
    assert found[1] == pytest.approx((kernel[:, 1:] * kernel[:, :-1]).sum() / variance, abs=0.02)


def test_no_noise_has_no_grain() -> None:
    sd, grain = noise_and_grain(*head(rim=34), pixel_mm=1.0)[0]
    assert sd == pytest.approx(0, abs=1e-6)
    assert np.isnan(grain)


def test_bleeds_by_hand() -> None:
    hu = np.array([[[50] * 10, [70] * 10, [900] * 10], [[50] * 10] * 3])
    blood = np.array([np.ones((3, 10)), np.zeros((3, 10))])
    first, second = bleed_statistics(hu, blood, pixel_mm=2.0)
    np.testing.assert_allclose(first, [60, 10, 1.2])  # bone counts for the area only
    assert np.isnan(second).all()


def test_a_threshold_finds_dense_blood_and_not_bone() -> None:
    hu, brain, blood = head(rim=34)
    hu[0, 60:80, 60:80], blood[0, 60:80, 60:80] = 70, 1
    brain[0, 72, 131:136] = 1  # bone in the brain mask
    twice = (np.repeat(a, 2, axis=0) for a in (hu, brain, blood))
    hu, brain, blood = twice
    blood[1] = 0
    dice = threshold_dice(hu, brain, blood, 1.0)
    assert dice[0, 0] == 1
    assert 0.9 < dice[0, 1] <= 1
    assert np.isnan(dice[1]).all()


def dataset(*, masks: bool = True, labels: tuple[int, ...] = (1, 0)) -> PreparedDataset:
    hu, brain, blood = (np.repeat(a, len(labels), axis=0) for a in head(rim=34))
    for row, label in enumerate(labels):
        if label == 1:
            hu[row, 60:80, 60:80], blood[row, 60:80, 60:80] = 60, 1
    slices = pd.DataFrame({"any": labels, "pixel_mm": 1.0})
    return PreparedDataset(Path("mine"), {}, slices, hu, brain=brain, mask=blood if masks else None)


def test_statistics_of_a_set() -> None:
    found = summarize(per_slice(dataset(labels=(1, 0, 0))))
    assert found.index.tolist() == list(UNITS)
    assert found["unit"].to_dict() == UNITS
    assert found.loc["rim_2", ["mean", "low", "high", "n"]].tolist() == [34, 34, 34, 3]
    assert found.loc["rim_spread", "mean"] == 0
    assert found.loc["blood_mean", ["mean", "n"]].tolist() == [60, 1]
    assert found.loc["blood_area", "mean"] == 4
    assert found.loc["threshold", "mean"] == 1


def test_a_set_without_masks_is_sampled_where_it_does_not_bleed() -> None:
    table = per_slice(dataset(masks=False, labels=(1, 0, -1)))
    assert table.index.tolist() == [1, 2]
    found = summarize(table)
    assert found["n"]["blood_mean"] == 0
    assert np.isnan(found["mean"]["threshold"])


def test_a_sample_is_limited() -> None:
    assert len(per_slice(dataset(labels=(0,) * 5), limit=2)) == 2
    with pytest.raises(InputError, match="limit: got 0"):
        per_slice(dataset(), limit=0)


def test_nothing_to_measure_is_one_line() -> None:
    with pytest.raises(InputError, match="all bleed and none has a mask"):
        per_slice(dataset(masks=False, labels=(1, 1)))

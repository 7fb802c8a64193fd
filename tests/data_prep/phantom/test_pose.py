"""Poses and slice planes: directions, tilt and volume worked out by hand."""

import numpy as np
import pytest

from data_prep.phantom.painting_grid import ORIGIN_MM, STEP_MM
from data_prep.phantom.pose import CENTRE_MM, Pose, sample_pose, slice_heights_mm, template_index
from data_prep.phantom.scanner import Scanner, sample_scanner

STILL = np.zeros((3, 7, 7, 7), np.float32)


@pytest.fixture
def scanner() -> Scanner:
    return sample_scanner("evaluation", np.random.default_rng(0))


def straight(size: float = 1.0) -> Pose:
    return Pose((np.eye(3) / size).astype(np.float32), (0.0, 0.0), -60.0, (STILL, STILL))


def test_axes_have_the_conventional_directions(scanner: Scanner) -> None:
    index = template_index(straight(), scanner, np.array([-20, 0, 20], np.float32), 20)
    for axis in range(3):
        assert (np.diff(index[axis], axis=axis) > 0).all()  # up, backwards, to the patient's left


def test_centre_of_the_field_is_the_centre_of_the_head(scanner: Scanner) -> None:
    index = template_index(straight(), scanner, np.zeros(1, np.float32), 21)[:, 0, 10, 10]
    centre = [(CENTRE_MM[2] - ORIGIN_MM[0]), (ORIGIN_MM[1] - CENTRE_MM[1]), (ORIGIN_MM[2] - CENTRE_MM[0])]
    np.testing.assert_allclose(index * STEP_MM, centre, atol=1e-3)


def test_a_tilted_slice_is_higher_in_front(scanner: Scanner) -> None:
    assert scanner.tilt_deg > 0
    height = template_index(straight(), scanner, np.zeros(1, np.float32), 20)[0, 0, :, 10] * STEP_MM
    rise = (height[0] - height[-1]) / (scanner.field_mm * 19 / 20)
    assert rise == pytest.approx(np.sin(np.deg2rad(scanner.tilt_deg)), abs=1e-4)


def test_size_scales_volume_and_slices() -> None:
    assert straight(0.9).volume_scale == pytest.approx(0.9**3, rel=1e-5)
    assert len(slice_heights_mm(straight(0.8), 5.0)) < len(slice_heights_mm(straight(1.0), 5.0))


def test_sampled_poses_are_moderate() -> None:
    rng = np.random.default_rng(1)
    scales = [sample_pose(rng).volume_scale for _ in range(200)]
    assert 0.4 < min(scales) < max(scales) < 1.3

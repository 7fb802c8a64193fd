"""What looks like HU of a head, and padding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data_prep.hounsfield import padding_to_air, stored_padding, unlike_hu

Change = Callable[[Any], Any]


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu,
        lambda hu: hu + np.random.default_rng(0).normal(0, 60, hu.shape),  # a bone kernel
        lambda hu: np.maximum(hu, 0),
        lambda hu: np.maximum(hu, -200),
        lambda hu: hu[:, 12:50, 15:47],  # cropped to the head
        lambda hu: np.where(hu < -500, -3024, hu),
        lambda hu: hu + 10,
        lambda hu: np.where(
            (hu > 0) & (np.indices(hu.shape)[0] % 3 > 0), np.linspace(200, 1800, hu.size).reshape(hu.shape), hu
        ),
        lambda hu: np.full_like(hu, -1000),  # nothing but air says nothing
    ],
)
def test_hu_of_a_head(change: Change, head: Any) -> None:
    assert unlike_hu(np.maximum(change(head[0].astype(np.float32)), -1024)) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda hu: hu + 1024, "tissue near 1040"),
        (lambda hu: hu + 1000, "tissue near 1040"),
        (lambda hu: hu + 1024 + np.random.default_rng(0).normal(0, 10, hu.shape), "tissue near 1040"),
        (lambda hu: np.maximum(hu + 1024, 0) * 10, "near 2985"),
        (lambda hu: hu - 1024, "near -125"),
        (lambda hu: hu + 500, "most of what is not air"),
        (lambda hu: hu + 32768, "most of what is not air"),
        (lambda hu: np.rint(np.clip(hu / 80 * 255, 0, 255)), "8-bit grey values"),
        (lambda hu: np.rint(np.clip((hu + 100) / 1000 * 255, 0, 255)), "8-bit grey values"),
        (lambda hu: np.clip(hu, -0.5, 80), "from -0.5 to 80 is a window"),
        (lambda hu: np.clip(hu / 80, 0, 1), "from 0 to 1 is a window"),
        (lambda hu: (hu - hu.mean()) / hu.std(), "is a window"),
        (lambda hu: -hu, "most of what is not air"),
    ],
)
def test_what_is_not_hu_of_a_head(change: Change, reason: str, head: Any) -> None:
    found = unlike_hu(np.maximum(change(head[0].astype(np.float32)), -1024).astype(np.float32))
    assert found is not None
    assert found.startswith("values are not HU: ")
    assert reason in found


@pytest.mark.parametrize("value", [32767.0, 62512.0, 3071.0, 1000.0])
def test_one_dense_value_in_the_corners_is_padding(value: float, head: Any) -> None:
    hu = head[0].astype(np.float32)
    rows, cols = np.indices(hu.shape[1:])
    outside = np.hypot(rows - 31.5, cols - 31.5) > 31
    hu[:, outside] = value
    hu[3, 30, 30] = value + 1  # metal
    assert padding_to_air(hu)
    assert (hu[:, outside] == -1024).all()
    assert hu[3, 30, 30] == value + 1
    assert (hu[:, ~outside] == np.where(np.indices(hu.shape)[0] == 3, hu, head[0])[:, ~outside]).all()
    assert not padding_to_air(hu)


def test_a_head_that_fills_the_corners_is_no_padding(head: Any) -> None:
    hu = head[0][:, 20:44, 20:44].astype(np.float32)
    assert not padding_to_air(hu)


@pytest.mark.parametrize(
    ("dtype", "first", "last", "expected"),
    [
        (np.uint16, 63536, 63536, [63536]),
        (np.uint16, -2000, -2000, [63536]),  # the same bits
        (np.int16, 63536, 63536, [-2000]),
        (np.int16, -2000, -2000, [-2000]),
        (np.int16, -3000, -1900, [-2000]),
        (np.int16, -1900, -3000, [-2000]),
        (np.int32, -2000, -2000, [-2000]),
        (np.uint8, 63536, 63536, []),
    ],
)
def test_the_sign_of_padding_and_the_order_of_its_limits_do_not_matter(
    dtype: Any, first: int, last: int, expected: list[int]
) -> None:
    pixels = np.array([[-2000, 40, 1000], [20, 0, 48]]).astype(dtype)
    found = stored_padding(pixels, first, last, np.zeros(pixels.shape, bool))
    assert pixels[found].tolist() == expected


def test_a_value_that_tissue_has_too_is_padding_at_the_border_alone() -> None:
    pixels = np.full((7, 7), 30, np.int16)
    pixels[:2, :3] = pixels[4, 4] = 0
    found = stored_padding(pixels, 0, 0, np.ones(pixels.shape, bool))
    assert found[:2, :3].all()
    assert found.sum() == 6

"""Scores of lesions: a miss lowers Dice over all lesions, and not that of the published rule."""

import numpy as np
import numpy.typing as npt
import pytest

from hgisam_book.systems.lesions import lesion_scores

Bools = npt.NDArray[np.bool_]


def scan(*boxes: tuple[int, int, int]) -> Bools:
    """A mask [2, 20, 20] with a box of both slices for each (first row, last row, side along columns from 2)."""
    mask = np.zeros((2, 20, 20), bool)
    for first, last, side in boxes:
        mask[:, first : last + 1, 2 : 2 + side] = True
    return mask


def test_a_miss_counts_only_over_all_lesions() -> None:
    predicted, both = scan((2, 4, 3)), scan((2, 4, 6), (10, 12, 6))
    # 18 voxels of a lesion of 36 are found: Dice 2 · 18 / (18 + 36) = 2 / 3; the other lesion is missed
    expected = {"dice_all": 1 / 3, "dice_hits": 2 / 3, "sensitivity": 0.5, "false_positives": 0.0}
    assert lesion_scores([(predicted, both)]) == pytest.approx(expected)
    alone = lesion_scores([(predicted, scan((2, 4, 6)))])
    assert alone == pytest.approx({"dice_all": 2 / 3, "dice_hits": 2 / 3, "sensitivity": 1.0, "false_positives": 0.0})


def test_scans_without_bleed_count_for_false_positives() -> None:
    found = lesion_scores([(scan((2, 4, 3)), scan()), (scan(), scan()), (scan((2, 4, 6)), scan((2, 4, 6)))])
    expected = {"dice_all": 1.0, "dice_hits": 1.0, "sensitivity": 1.0, "false_positives": 1 / 3}
    assert found == pytest.approx(expected)


def test_small_components_do_not_count_in_the_published_rule() -> None:
    found = lesion_scores([(scan((2, 2, 4), (8, 8, 4)), scan((2, 2, 4)))])  # 8 voxels each
    assert found == {"dice_all": 1.0, "dice_hits": None, "sensitivity": 0.0, "false_positives": 0.0}


def test_a_crescent_is_a_miss_of_the_published_rule() -> None:
    rows, cols = np.mgrid[:20, :20] - 9.5
    crescent = np.repeat(((np.hypot(rows, cols) < 9) & (np.hypot(rows, cols) > 6) & (cols > -3))[None], 2, axis=0)
    found = lesion_scores([(crescent, crescent)])
    assert found == {"dice_all": 1.0, "dice_hits": None, "sensitivity": 0.0, "false_positives": 1.0}


def test_two_components_in_a_lesion_and_one_over_two_lesions() -> None:
    lesion = scan((0, 9, 4))  # 80 voxels
    halves = scan((0, 3, 4), (6, 9, 4))  # 32 + 32
    found = lesion_scores([(halves, lesion)])
    assert found["dice_all"] == pytest.approx(2 * 64 / (64 + 80))
    assert found["dice_hits"] == pytest.approx(2 * 32 / (32 + 80))  # each hit alone
    assert found["sensitivity"] == 1
    merged = lesion_scores([(scan((0, 9, 4)), scan((0, 3, 4), (6, 9, 4)))])
    assert merged["dice_all"] == pytest.approx(2 * 32 / (32 + 80))
    assert merged["false_positives"] == 1  # its centre lies between the lesions


def test_nothing_to_average() -> None:
    nothing = {"dice_all": None, "dice_hits": None, "sensitivity": None, "false_positives": None}
    assert lesion_scores([]) == nothing

"""One cause for each mask, on masks of a few pixels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.data.prepared import open_prepared
from hgisam.evaluation.measurements import predictions_table
from hgisam_book.studies import failure_causes as causes
from hgisam_book.studies.failure_causes import cause, failures
from tests.conftest import make_prepared

TRUTH = """
    ........
    .##.....
    .##.....
    ........
    ........
"""
MASKS = {
    causes.GOOD: ("........", ".###....", ".##.....", "........", "........"),
    causes.EMPTY: ("........",) * 5,
    causes.NO_OVERLAP: ("........", "........", "........", ".##.....", ".##....."),  # touches, shares nothing
    causes.TOO_SMALL: (
        "........",
        ".#......",
        "........",
        "........",
        "......##",
    ),  # 3 false negative, 2 false positive
    causes.FALSE_POSITIVES: ("........", ".##.....", ".##.....", "....####", "....####"),
    causes.TOO_LARGE: ("########", "########", "###.....", "........", ".......#"),
}


def pixels(lines: tuple[str, ...]) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_by_hand(name: str) -> None:
    mask, truth = pixels(MASKS[name]), pixels(tuple(TRUTH.split()))
    if name == causes.FALSE_POSITIVES:  # without one more pixel its Dice is 8 / 16: good
        assert cause(mask, truth, detected=True) == causes.GOOD
        mask[4, 3] = True
    assert cause(mask, truth, detected=True) == name
    assert cause(mask, truth, detected=False) == (causes.GOOD if name == causes.GOOD else causes.MISSED)


def test_pixels_that_touch_by_a_corner_are_one_component() -> None:
    mask, truth = pixels(MASKS[causes.FALSE_POSITIVES]), pixels(tuple(TRUTH.split()))
    mask[4, 3] = True
    mask[3, 3] = True  # touches the bleed by a corner and the rest by a side: all is one component now
    assert cause(mask, truth, detected=True) == causes.TOO_LARGE


def test_causes_are_complete() -> None:
    assert set(causes.CAUSES) == {*MASKS, causes.MISSED}


def test_failures_of_a_set(tmp_path: Path) -> None:
    """Bright squares are segmented exactly at 60 HU; at -2000 HU the whole brain is."""
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2))
    scores = pd.DataFrame({"row": range(12), "score": [0.9] * 3 + [0.1] * 9})
    predictions = predictions_table(prepared, scores, 0.5)

    def of(threshold: float) -> pd.DataFrame:
        found = failures(prepared, {}, pd.DataFrame({"hu_threshold": [threshold] * 12}), predictions)
        assert set(found["method"]) == {"hu_threshold"}
        return found.set_index("row")

    exact = of(60)
    assert exact["cause"].dropna().to_dict() == {2: causes.GOOD, 3: causes.GOOD}
    assert exact["dice"].dropna().tolist() == [1, 1]
    assert (exact["false_positive_mm2"] == 0).all()
    assert exact[["false_positive_at_edge", "false_positive_hu"]].isna().all(axis=None)
    everything = of(-2000)
    assert everything["cause"].dropna().to_dict() == {2: causes.TOO_LARGE, 3: causes.MISSED}
    brain, pixel_mm = prepared.brain[0] > 0, prepared.slices["pixel_mm"].iloc[0]
    assert everything.loc[0, "false_positive_mm2"] == pytest.approx(brain.sum() * pixel_mm**2)
    assert everything.loc[3, "false_positive_mm2"] == pytest.approx((brain.sum() - 36) * pixel_mm**2)
    assert everything.loc[0, "false_positive_hu"] == pytest.approx(30, abs=1)
    inner = sum(
        np.hypot(*(np.argwhere(~brain) - (r, c)).T).min() * pixel_mm > causes.EDGE_MM for r, c in np.argwhere(brain)
    )
    assert everything.loc[0, "false_positive_at_edge"] == pytest.approx(1 - inner / brain.sum())

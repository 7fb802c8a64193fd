"""One cause for each mask, drawn by hand."""

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
    causes.BESIDE: ("........", "........", "........", ".##.....", ".##....."),  # touches, shares nothing
    causes.TOO_SMALL: ("........", ".#......", "........", "........", "......##"),  # 3 missed, 2 in vain
    causes.ELSEWHERE: ("........", ".##.....", ".##.....", "....####", "....####"),
    causes.TOO_LARGE: ("########", "########", "###.....", "........", ".......#"),
}


def drawn(lines: tuple[str, ...]) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_by_hand(name: str) -> None:
    found, truth = drawn(MASKS[name]), drawn(tuple(TRUTH.split()))
    if name == causes.ELSEWHERE:  # as it stands its Dice is 8 / 16: good
        assert cause(found, truth, said=True) == causes.GOOD
        found[4, 3] = True
    assert cause(found, truth, said=True) == name
    assert cause(found, truth, said=False) == (causes.GOOD if name == causes.GOOD else causes.MISSED)


def test_a_corner_belongs_to_the_piece() -> None:
    found, truth = drawn(MASKS[causes.ELSEWHERE]), drawn(tuple(TRUTH.split()))
    found[4, 3] = True
    found[3, 3] = True  # touches the bleed by a corner and the rest by a side: all is one piece now
    assert cause(found, truth, said=True) == causes.TOO_LARGE


def test_causes_are_complete() -> None:
    assert set(causes.CAUSES) == {*MASKS, causes.MISSED}


def test_failures_of_a_set(tmp_path: Path) -> None:
    """Bright squares are found whole at 60 HU; at -2000 HU everything in the brain is."""
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
    assert (exact["vain_mm2"] == 0).all()
    assert exact[["vain_at_edge", "vain_hu"]].isna().all(axis=None)
    everything = of(-2000)
    assert everything["cause"].dropna().to_dict() == {2: causes.TOO_LARGE, 3: causes.MISSED}
    brain, pixel_mm = prepared.brain[0] > 0, prepared.slices["pixel_mm"].iloc[0]
    assert everything.loc[0, "vain_mm2"] == pytest.approx(brain.sum() * pixel_mm**2)
    assert everything.loc[3, "vain_mm2"] == pytest.approx((brain.sum() - 36) * pixel_mm**2)
    assert everything.loc[0, "vain_hu"] == pytest.approx(30, abs=1)
    inner = sum(
        np.hypot(*(np.argwhere(~brain) - (r, c)).T).min() * pixel_mm > causes.EDGE_MM for r, c in np.argwhere(brain)
    )
    assert everything.loc[0, "vain_at_edge"] == pytest.approx(1 - inner / brain.sum())

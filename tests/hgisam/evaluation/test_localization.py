"""Pointing game, energy and box hits, on maps whose metrics are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam.data.prepared import BOX_COLUMNS, check_boxes, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.localization import box_iou, boxes_around, inside_boxes, localize, summarize_localization
from tests.conftest import make_prepared


@pytest.fixture
def boxed(tmp_path: Path) -> Any:
    """Two patients bleed in two slices each; a box encloses each square."""
    data = open_prepared(make_prepared(tmp_path / "set", patients=4))
    rows = [
        [row, "unspecified", *map(float, box)]
        for row in np.flatnonzero(data.mask[:].any(axis=(1, 2)))
        for box in boxes_around(data.mask[row] > 0)
    ]
    return replace(data, boxes=pd.DataFrame(rows, columns=list(BOX_COLUMNS)))


def means(data: Any, maps: Any, threshold: float = 0.5) -> pd.DataFrame:
    thresholds = pd.DataFrame({"hgi_sam": np.full(len(data.slices), threshold)})
    table = localize(data, {"hgi_sam": (Stored(maps), Stored(maps))}, thresholds)
    return table.groupby("metric")["value"].mean()


class Stored:
    """An array with the indexing of zarr."""

    def __init__(self, array: Any) -> None:
        self.oindex = array


def test_a_map_of_the_truth_is_right_everywhere(boxed: Any) -> None:
    found = means(boxed, (boxed.mask[:] > 0).astype(np.float32))
    assert found["pointing_game"] == found["box_hit"] == found["energy_in_boxes"] == 1
    brain = boxed.brain[0].sum()
    assert found["pointing_by_chance"] == pytest.approx(36 / brain)


def test_a_map_beside_the_truth_is_wrong(boxed: Any) -> None:
    maps = (boxed.brain[:] > 0) & (boxed.mask[:] == 0)
    found = means(boxed, maps.astype(np.float32))
    assert found["pointing_game"] == found["energy_in_boxes"] == found["box_hit"] == 0


def test_a_constant_map_hits_nothing(boxed: Any) -> None:
    found = means(boxed, np.full(boxed.mask.shape, 0.25, np.float32))
    assert found["pointing_game"] == found["box_hit"] == 0
    assert found["energy_in_boxes"] == pytest.approx(found["pointing_by_chance"])
    assert means(boxed, np.zeros(boxed.mask.shape, np.float32))["energy_in_boxes"] == 0


def test_of_tied_maxima_the_share_that_hits_counts(boxed: Any) -> None:
    maps = (boxed.mask[:] > 0).astype(np.float32)
    rows = np.unique(boxed.boxes["row"])
    maps[rows[:, None], 16, 5:9] = 1.0  # four more beside the 36 of the square, in the brain
    assert means(boxed, maps)["pointing_game"] == pytest.approx(0.9)


def test_pixels_outside_the_brain_do_not_count(boxed: Any) -> None:
    maps = (boxed.mask[:] > 0).astype(np.float32)
    maps[:, 0, 0] = 9.0
    found = means(boxed, maps)
    assert found["pointing_game"] == found["energy_in_boxes"] == 1


def test_each_box_counts_once(boxed: Any) -> None:
    row = int(boxed.boxes["row"].iloc[0])
    extra = [row, "subdural", 10.0, 10.0, 12.0, 12.0]
    two = replace(boxed, boxes=pd.concat([boxed.boxes, pd.DataFrame([extra], columns=list(BOX_COLUMNS))]))
    thresholds = pd.DataFrame({"hgi_sam": np.full(len(two.slices), 0.5)})
    maps = Stored((two.mask[:] > 0).astype(np.float32))
    table = localize(two, {"hgi_sam": (maps, maps)}, thresholds)
    assert table.loc[table["metric"] == "box_hit", "value"].tolist().count(0.0) == 1
    summary = summarize_localization(table, bootstrap=50, seed=0)["hgi_sam"]
    assert summary["n_boxes"] == len(two.boxes) == 5
    assert summary["n_slices"] == 4
    assert summary["box_hit"]["mean"] == pytest.approx(0.8)
    low, high = summary["box_hit"]["ci95"]
    assert low <= 0.8 <= high


def test_hu_has_no_energy(boxed: Any) -> None:
    thresholds = pd.DataFrame({"hu_threshold": np.full(len(boxed.slices), 50.0)})
    table = localize(boxed, {}, thresholds).set_index("metric")["value"]
    assert "energy_in_boxes" not in table.index
    assert (table["box_hit"] == 1).all()


def test_overlaps_by_hand() -> None:
    a = np.array([[0.0, 0, 2, 2], [0, 0, 4, 4]])
    b = np.array([[1.0, 1, 3, 3], [5, 5, 6, 6]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 7, 0], [4 / 16, 0]])
    assert box_iou(a, np.zeros((0, 4))).shape == (2, 0)
    inside = inside_boxes(np.array([[0.5, 1.0, 2.4, 3.0]]), (4, 4))
    assert np.argwhere(inside).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    corner = np.zeros((5, 5), bool)
    corner[1, 1] = corner[2, 2] = corner[4, 4] = True
    assert boxes_around(corner).tolist() == [[1, 1, 3, 3], [4, 4, 5, 5]]


def test_a_set_without_boxes_is_refused(boxed: Any) -> None:
    for boxes in (None, boxed.boxes.iloc[:0]):
        with pytest.raises(InputError, match="at least one box"):
            localize(replace(boxed, boxes=boxes), {}, pd.DataFrame({"hu_threshold": [0.0] * len(boxed.slices)}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row": 0}, "does not bleed"), ({"type": "chronic"}, "type: got"), ({"row1": 99.0}, "edges outside"),
        ({"row0": 31.0}, "edges outside"),
    ],
)  # fmt: skip
def test_boxes_are_held_to_the_contract(change: dict[str, Any], words: str, boxed: Any) -> None:
    check_boxes(boxed.boxes, boxed.slices, 32)
    with pytest.raises(InputError, match=words):
        check_boxes(boxed.boxes.assign(**change), boxed.slices, 32)
    with pytest.raises(InputError, match="none named col1"):
        check_boxes(boxed.boxes.drop(columns="col1"), boxed.slices, 32)

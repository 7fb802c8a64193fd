"""Exam labels, boxes and balls, against what a hand would draw."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hgisam.config.profile import load_profile
from hgisam.data.labels import LABELS
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam_book.studies.coarse_labels import (
    boxes,
    coarse_set,
    coarse_set_step,
    exam_labels,
    masks_of_balls,
    masks_of_boxes,
)
from tests.conftest import TINY, make_prepared


def test_every_slice_inherits_the_labels_of_its_scan() -> None:
    slices = pd.DataFrame(0, index=range(5), columns=list(LABELS)).assign(study=["b", "a", "b", "a", "c"])
    slices.loc[0, ["any", "subdural"]] = 1
    found = exam_labels(slices)
    assert found["any"].tolist() == found["subdural"].tolist() == [1, 0, 1, 0, 0]
    assert not found[["epidural", "subarachnoid"]].any(axis=None)
    assert slices["any"].tolist() == [1, 0, 0, 0, 0]


def test_a_box_for_each_bleed_of_a_slice() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:3, 2:6] = mask[7, 7] = mask[8, 8] = True  # the last two share a corner
    assert boxes(mask) == [(slice(1, 3), slice(2, 6)), (slice(7, 9), slice(7, 9))]
    assert boxes(np.zeros((4, 4), bool)) == []


def test_the_mask_of_a_box_is_what_is_dense_in_it() -> None:
    rows, cols = np.mgrid[:64, :64]
    disc = np.hypot(rows - 30, cols - 34) < 12
    hu = np.where(disc, 65.0, 30.0)[None] + np.random.default_rng(0).normal(0, 3, (1, 64, 64))
    hu[0, 5:10, 5:10] = 65  # as dense, in no box
    brain, mask = np.ones((1, 64, 64), np.uint8), disc[None]
    found = masks_of_boxes(hu, brain, mask, pixel_mm=1.0)
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.97
    assert not found[0, 5:10, 5:10].any()
    hu[0, 30:34, 30:34] = 900  # bone in the box is no blood, and does not move the threshold
    bony = masks_of_boxes(hu, brain, mask, pixel_mm=1.0)
    assert not bony[0, 30:34, 30:34].any()
    assert 2 * (bony & mask).sum() / (bony.sum() + mask.sum()) > 0.9
    assert not masks_of_boxes(hu, 0 * brain, mask, pixel_mm=1.0).any()


def test_a_ball_holds_its_bleed_and_reaches_over_slices() -> None:
    mask = np.zeros((5, 40, 40), bool)
    mask[2, 20, 10:31] = True  # 20 mm from middle to middle: a radius of 10.5 mm
    brain = np.ones(mask.shape, np.uint8)
    ball = masks_of_balls(mask, brain, 5.0 * np.arange(5), pixel_mm=1.0)
    assert (ball & mask).sum() == mask.sum()
    assert ball[2].sum() == pytest.approx(np.pi * 10.5**2, rel=0.03)
    assert ball[1].sum() == ball[3].sum() == pytest.approx(np.pi * (10.5**2 - 5**2), rel=0.05)
    assert ball[0].sum() == pytest.approx(np.pi * (10.5**2 - 10**2), abs=6)
    assert not (masks_of_balls(mask, 0 * brain, 5.0 * np.arange(5), pixel_mm=1.0)).any()


def test_the_sets_have_the_slices_of_the_run_and_other_labels(tmp_path: Path) -> None:
    for name in ("rsna", "ct-ich"):
        make_prepared(tmp_path / "smoke" / "prepared" / name)
    profile = load_profile("smoke", TINY)
    original = open_prepared(tmp_path / "smoke" / "prepared" / "ct-ich")
    for label in ("exam", "box", "ball"):
        data = coarse_set(coarse_set_step(profile, tmp_path, label))
        assert np.array_equal(data.hu[:], original.hu[:])
        assert np.array_equal(data.brain[:], original.brain[:])
        same = ["patient", "study", "slice_index", "fold", "split"]
        pd.testing.assert_frame_equal(data.slices[same], original.slices[same])
        if label == "exam":
            assert data.mask is None
            assert data.slices.groupby("study")["any"].nunique().eq(1).all()
            assert data.slices["any"].sum() == 4 * 6
        else:
            assert data.mask is not None
            assert (data.mask[:] > 0).any(axis=(1, 2))[original.slices["any"] == 1].all()


def test_boxes_need_masks(tmp_path: Path) -> None:
    make_prepared(tmp_path / "smoke" / "prepared" / "ct-ich", with_mask=False)
    with pytest.raises(InputError, match="mask"):
        coarse_set_step(load_profile("smoke", TINY), tmp_path, "box")

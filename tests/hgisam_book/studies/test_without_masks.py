"""Dice at thresholds that no annotated mask chose."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from hgisam.data.prepared import PreparedDataset
from hgisam_book.studies.refinement import PSEUDO_THRESHOLD
from hgisam_book.studies.without_masks import dice_without_masks


@pytest.fixture
def data() -> PreparedDataset:
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[:, :4] = 1
    slices = pd.DataFrame({"patient": ["a", "b"], "pixel_mm": 1.0})
    return PreparedDataset(Path("set"), {}, slices, 30 + 40 * mask, np.ones_like(mask), mask)


def stored(maps: np.ndarray) -> tuple[Any, Any]:
    """Score maps as in a group of a run."""
    array = zarr.array(maps.astype(np.float32))
    return array, array


def test_thresholds_are_fixed_and_methods_without_maps_are_left_out(data: PreparedDataset) -> None:
    truth = np.asarray(data.mask, np.float32)
    inside = np.where(truth > 0, PSEUDO_THRESHOLD + 0.01, PSEUDO_THRESHOLD - 0.01)
    maps = {"hgi_sam_density": stored(inside), "unet": stored(truth)}
    table = dice_without_masks(data, maps, np.array([1]))
    assert table[["method", "patient", "row", "dice"]].values.tolist() == [["hgi_sam_density", "b", 1, 1.0]]
    below = {"density_alone": stored(truth * 0.4), "hgi_sam": stored(truth)}
    table = dice_without_masks(data, below, np.array([0, 1]))
    dice = table.groupby("method")["dice"].mean()
    assert dice["density_alone"] == 0
    assert dice["hgi_sam_otsu"] == 1
    assert dice_without_masks(data, {}, np.array([0])).empty

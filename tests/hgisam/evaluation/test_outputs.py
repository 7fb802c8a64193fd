"""Sizes of bleeds from their masks."""

from pathlib import Path

import pandas as pd
import pytest

from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.outputs import with_lesion_sizes
from tests.conftest import make_prepared


def test_lesion_sizes_are_those_of_the_masks(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2, field_mm=64.0))  # 2 mm pixels, 5 mm slices
    rows = [8, 2, 0, 3]
    given = prepared.slices.iloc[rows][["patient", "study"]].assign(row=rows, score=[0.9, 0.3, 0.8, 0.4])
    sized = with_lesion_sizes(given, prepared)
    assert sized["area_mm2"].tolist() == [0, 144, 0, 144]  # 6 × 6 pixels in slices 2 and 3 of patient 0
    assert sized["volume_ml"].tolist() == pytest.approx([0, 0.72, 0, 0.72])


def test_lesion_sizes_need_masks(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=1, with_mask=False))
    with pytest.raises(InputError, match="masks"):
        with_lesion_sizes(pd.DataFrame({"row": [0]}), prepared)

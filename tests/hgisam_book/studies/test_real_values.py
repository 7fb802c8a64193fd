"""Values of real heads, and verdicts beside them."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from hgisam.errors import InputError
from hgisam_book.studies.real_values import (
    NOT_COMPARABLE,
    NOT_MEASURED,
    OUTSIDE,
    SHIPPED,
    WITHIN,
    compare_with_real,
    read_real_heads,
)
from hgisam_book.studies.realism import per_slice, summarize
from tests.hgisam_book.studies.test_realism import dataset


def test_the_values_of_real_heads() -> None:
    targets = read_real_heads().targets()
    assert targets["rim_2"].value == 47
    assert (targets["rim_2"].low, targets["rim_2"].high) == (44, 50)
    assert targets["threshold_smoothed"].high == 0.35
    assert all(target.low <= target.value <= target.high for target in targets.values())
    assert {"noise", "grain", "core_50", "blood_mean", "rim_spread"} <= targets.keys()


def test_verdicts() -> None:
    real = read_real_heads()
    statistics = summarize(per_slice(dataset()))
    statistics.loc["noise", "mean"], statistics.loc["rim_2", "mean"] = 3.0, 27.0
    statistics.loc["grain", "mean"] = np.nan
    verdict = compare_with_real(statistics, real.pixel_mm, real)["verdict"]
    assert (verdict["noise"], verdict["rim_2"], verdict["grain"]) == (WITHIN, OUTSIDE, NOT_MEASURED)
    coarse = compare_with_real(statistics, 3 * real.pixel_mm, real)["verdict"]
    assert (coarse["rim_2"], coarse["grain"]) == (NOT_COMPARABLE, NOT_MEASURED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda real: real["rim"]["from_mm"].append(20), "another length"),
        (lambda real: real["statistics"].update(hair=real["statistics"]["noise"]), "hair"),
        (lambda real: real["sources"].pop("ct-ich"), "ct-ich"),
        (lambda real: real.pop("pixel_mm"), "pixel_mm"),
    ],
)
def test_a_wrong_file_is_one_line(change, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    yaml = YAML(typ="safe")
    content = yaml.load(SHIPPED)
    change(content)
    yaml.dump(content, tmp_path / "real.yaml")
    with pytest.raises(InputError, match=message) as error:
        read_real_heads(tmp_path / "real.yaml")
    assert "\n" not in str(error.value)

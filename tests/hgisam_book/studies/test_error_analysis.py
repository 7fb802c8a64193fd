"""Error analysis of a classifier, calculated by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from hgisam.data.labels import SUBTYPES
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.outputs import with_lesion_sizes
from hgisam_book.studies import error_analysis
from hgisam_book.studies.error_analysis import (
    NO_BLEEDING,
    NOT_ANNOTATED,
    PREDICTED_BLEEDING,
    PREDICTED_NEGATIVE,
    SEVERAL,
)
from tests.conftest import make_prepared


def slices(*annotated: tuple[str, ...], **columns: list[float]) -> pd.DataFrame:
    """One row per slice, with its subtypes."""
    rows = [{name: int(name in types) for name in SUBTYPES} | {"any": int(bool(types))} for types in annotated]
    return pd.DataFrame(rows).assign(**columns)


def options(seed: int = 0) -> dict[str, Any]:
    return {"count": 200, "seed": seed}


def test_calibration_errors_by_hand() -> None:
    labels, scores = [0, 0, 0, 1, 1, 1], [0.1, 0.1, 0.1, 0.6, 0.6, 0.6]
    found = error_analysis.calibration_errors(labels, scores, groups=2)
    assert found["ece"] == pytest.approx((0.1 + 0.4) / 2)
    assert found["brier"] == pytest.approx((0.1**2 + 0.4**2) / 2)


def test_calibration_weights_bins_by_their_slices() -> None:
    scores = [0.2] * 9 + [0.9]  # ties share a bin: one of 9 and one of 1
    found = error_analysis.calibration_errors([0] * 9 + [1], scores, groups=10)
    assert found["ece"] == pytest.approx(0.9 * 0.2 + 0.1 * 0.1)


def test_calibration_of_one_score_for_all() -> None:
    labels = [0, 0, 0, 1]
    assert error_analysis.calibration_errors(labels, [0.25] * 4) == {"ece": 0, "brier": pytest.approx(0.1875)}


def test_calibration_bins_are_those_of_the_curve() -> None:
    generator = np.random.default_rng(0)
    scores = generator.random(80)
    labels = (generator.random(80) < scores**2).astype(int)
    share, mean = calibration_curve(labels, scores, n_bins=8, strategy="quantile")
    assert error_analysis.calibration_errors(labels, scores, groups=8)["ece"] == pytest.approx(
        np.abs(share - mean).mean()
    )


@pytest.mark.parametrize("scores", [[0.2, 1.2], [0.2, np.nan], [0.2]])
def test_calibration_refuses_scores_that_are_no_probabilities(scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"greater than 1|NaN|inconsistent"):
        error_analysis.calibration_errors([0, 1], scores)


def test_confusion_by_type_by_hand() -> None:
    table = slices(
        (), (), ("epidural",), ("epidural",), ("subdural", "epidural"), ("subdural",),
        score=[0.1, 0.5, 0.9, 0.4, 0.5, 0.2],
    )  # fmt: skip
    found = error_analysis.confusion_by_type(table, 0.5)
    assert list(found.index) == [NO_BLEEDING, *SUBTYPES, SEVERAL]
    assert {kind: list(row) for kind, row in found.iterrows() if row.sum()} == {
        NO_BLEEDING: [1, 1],
        "epidural": [1, 1],
        "subdural": [0, 1],
        SEVERAL: [1, 0],
    }


def test_confusion_by_type_counts_every_slice_also_without_a_subtype() -> None:
    table = slices((), ("epidural",), (), score=[0.1, 0.2, 0.3])
    table.loc[2, "any"] = 1  # bleeds, subtype not annotated
    found = error_analysis.confusion_by_type(table, 0.5)
    assert list(found.columns) == [PREDICTED_BLEEDING, PREDICTED_NEGATIVE]
    assert found.index[-1] == NOT_ANNOTATED
    assert found.to_numpy().sum() == 3
    assert found.loc[NOT_ANNOTATED, PREDICTED_NEGATIVE] == 1


def test_predicted_types_by_hand() -> None:
    scores = {f"score_{name}": [0.0] * 4 for name in SUBTYPES}
    scores |= {"score_epidural": [0.9, 0.4, 0.1, 0.3], "score_subdural": [0.1, 0.8, 0.8, 0.8]}
    table = slices(("epidural",), ("epidural", "subdural"), ("subdural",), (), **scores)
    found = error_analysis.predicted_types(table, dict.fromkeys(SUBTYPES, 0.5) | {"epidural": 0.3})
    assert list(found.columns) == ["slices", *SUBTYPES]
    assert found.loc["epidural", ["slices", "epidural", "subdural"]].tolist() == [2, 1, 0.5]
    assert found.loc["subdural", ["slices", "epidural", "subdural"]].tolist() == [2, 0.5, 1]
    assert found.loc[NO_BLEEDING, ["slices", "epidural", "subdural"]].tolist() == [1, 1, 1]
    assert found.loc["subarachnoid", "slices"] == 0
    assert np.isnan(found.loc["subarachnoid", "subdural"])


def test_predicted_types_need_a_score_of_every_type() -> None:
    with pytest.raises(InputError, match="none of epidural, intraparenchymal"):
        error_analysis.predicted_types(slices((), score_subdural=[0.5]), dict.fromkeys(SUBTYPES, 0.5))


def test_a_scan_is_found_by_a_slice_that_bleeds(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2, field_mm=64.0))  # 2 mm pixels, 5 mm slices
    rows = [8, 2, 0, 3]
    given = prepared.slices.iloc[rows][["patient", "study"]].assign(row=rows, score=[0.9, 0.3, 0.8, 0.4])
    scans = error_analysis.bleeding_scans(with_lesion_sizes(given, prepared))
    # neither the scan without a bleed nor the false positive of the other
    assert scans.to_dict("index") == {"s0": {"patient": "p0", "volume_ml": pytest.approx(1.44), "score": 0.4}}


def test_sensitivity_by_size_by_hand() -> None:
    sized = pd.DataFrame(
        {"patient": list("aabbc"), "area_mm2": [0.0, 50, 100, 299, 2000], "score": [0.9, 0.2, 0.9, 0.1, 0.5]}
    )
    found = error_analysis.sensitivity_by_size(sized, 0.5, size="area_mm2", edges=(100, 300, 1000), **options())
    assert found["n"].to_dict() == {"< 100 mm²": 1, "100–300 mm²": 2, "300–1000 mm²": 0, "≥ 1000 mm²": 1}
    assert found["patients"].tolist() == [1, 1, 0, 1]
    np.testing.assert_array_equal(found["mean"], [0, 0.5, np.nan, 1])
    assert found[["low", "high"]].iloc[2].isna().all()


def test_sensitivity_interval_is_the_wider_of_wilson_and_bootstrap() -> None:
    """Wilson, 10 of 10: 1 / (1 + z² / 10) = 0.722; patients a with all and b with none of 50 each: 0 to 1."""
    table = {"patient": [*map(str, range(10)), *["a"] * 50, *["b"] * 50], "volume_ml": [1] * 10 + [9] * 100}
    sized = pd.DataFrame(table | {"score": [1] * 60 + [0] * 50})
    found = error_analysis.sensitivity_by_size(sized, 0.5, size="volume_ml", edges=(5,), **options())
    assert found.loc["< 5 ml", ["mean", "low", "high"]].tolist() == pytest.approx([1, 0.722, 1], abs=1e-3)
    assert found.loc["≥ 5 ml", ["mean", "low", "high"]].tolist() == [0.5, 0, 1]


def test_time_to_counts_whole_epochs() -> None:
    history = pd.DataFrame({"seconds": [10.0, 20.0, 40.0], "val_auroc": [0.5, 0.8, 0.7]})
    assert error_analysis.time_to(history, "val_auroc", 0.5) == 10
    assert error_analysis.time_to(history, "val_auroc", 0.75) == 30
    assert error_analysis.time_to(history, "val_auroc", 0.81) is None


def test_time_to_says_which_column_is_missing() -> None:
    with pytest.raises(InputError, match="no column val_dice, expected one of seconds"):
        error_analysis.time_to(pd.DataFrame({"seconds": [1.0]}), "val_dice", 0.5)

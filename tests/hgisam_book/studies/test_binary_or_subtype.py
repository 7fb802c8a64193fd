"""Two tasks compared patient by patient, seed by seed and head by head: values calculated by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hgisam.data.labels import SUBTYPES
from hgisam_book.studies.binary_or_subtype import (
    NEITHER,
    SAME_SEED,
    SAME_TASK,
    auroc_of_types,
    compare_auroc,
    compare_tasks,
    head_agreement,
    summarize_study,
    variance_shares,
)


@pytest.fixture
def options() -> dict[str, Any]:
    return {"count": 200, "seed": 0}


@pytest.fixture
def dice() -> pd.DataFrame:
    """Patient a has one slice, patient b three; two seeds, both tasks, one method."""
    means = {
        ("binary", 1): {"a": [0.5], "b": [0.2, 0.4, 0.6]},
        ("binary", 2): {"a": [0.7], "b": [0.4, 0.6, 0.8]},
        ("subtype", 1): {"a": [0.3], "b": [0.1, 0.3, 0.5]},
        ("subtype", 2): {"a": [0.3], "b": [0.3, 0.5, 0.7]},
    }
    base = {"target": "any", "method": "hgi_sam"}
    return pd.DataFrame(
        {"task": task, "seed": seed, "patient": patient, "dice": value, **base}
        for (task, seed), patients in means.items()
        for patient, values in patients.items()
        for value in values
    )


@pytest.fixture
def scores() -> pd.DataFrame:
    """Three patients with one slice of each class; only the subtype classifier of seed 1 is wrong, always."""
    slices = pd.DataFrame({"row": range(6), "patient": list("aabbcc"), "any": [0, 1] * 3})
    slices = slices.assign(**dict.fromkeys(SUBTYPES, 0)).assign(subdural=[0, 1, 0, 1, 0, 0])
    right = slices["any"] + np.linspace(0, 0.1, 6)
    runs = []
    for task, seed in (("binary", 1), ("binary", 2), ("subtype", 1), ("subtype", 2)):
        score = -right if (task, seed) == ("subtype", 1) else right
        types = {f"score_{name}": slices["subdural"] for name in SUBTYPES} if task == "subtype" else {}
        runs.append(slices.assign(task=task, seed=seed, score=score, **types))
    return pd.concat(runs, ignore_index=True)


def test_patients_count_alike_and_seeds_are_averaged(dice: pd.DataFrame, options: dict[str, Any]) -> None:
    found = compare_tasks(dice, options)
    assert found["binary"]["mean"] == pytest.approx((0.6 + 0.5) / 2)  # of a and of b, over both seeds
    assert found["subtype"]["mean"] == pytest.approx((0.3 + 0.4) / 2)
    assert found["difference"]["mean"] == pytest.approx(0.2)
    low, high = found["difference"]["ci95"]
    assert low == pytest.approx(0.1)  # where b is sampled twice
    assert high == pytest.approx(0.3)
    assert found["by_seed"] == pytest.approx({"1": 0.15, "2": 0.25})
    assert found["effect_size"] == 1.0  # binary is better for both patients
    assert found["n_patients"] == 2


def test_shares_of_the_variance() -> None:
    tasks = ["binary", "subtype"]
    assert variance_shares(pd.DataFrame([[1, 2], [3, 4]], columns=tasks)) == pytest.approx(
        {"task": 0.2, "seed": 0.8, "rest": 0}
    )
    assert variance_shares(pd.DataFrame([[1, 2], [2, 1]], columns=tasks)) == pytest.approx(
        {"task": 0, "seed": 0, "rest": 1}
    )
    assert variance_shares(pd.DataFrame([[1, 1], [1, 1]], columns=tasks)) is None


def test_auroc_is_the_mean_over_seeds_and_the_difference_is_paired(
    scores: pd.DataFrame, options: dict[str, Any]
) -> None:
    found = compare_auroc(scores, options)
    assert found["binary"] == {"mean": 1.0, "ci95": [1.0, 1.0]}
    assert found["subtype"]["mean"] == found["difference"]["mean"] == 0.5
    assert found["difference"]["ci95"] == [0.5, 0.5]  # whichever patients are sampled


def test_slices_of_one_class_have_no_auroc(scores: pd.DataFrame, options: dict[str, Any]) -> None:
    for label in (0, 1):
        found = compare_auroc(scores.assign(any=label), options)
        assert found["binary"] == found["difference"] == {"mean": None, "ci95": None}


def test_subtypes_that_no_slice_has_have_no_auroc(scores: pd.DataFrame) -> None:
    found = auroc_of_types(scores[scores["task"] == "subtype"])
    assert found == {"subdural": {"mean": 1.0, "by_seed": {"1": 1.0, "2": 1.0}}}


def test_the_summary_has_every_method_and_both_measures(dice: pd.DataFrame, scores: pd.DataFrame) -> None:
    of_subtypes = dice.assign(target="subdural", dice=0.0)  # must not enter the comparison
    both = pd.concat([dice, dice.assign(method="swin_sam", dice=0.5), of_subtypes])
    found = summarize_study(both, scores, bootstrap=100, seed=0)
    assert found["hgi_sam"]["difference"]["mean"] == pytest.approx(0.2)
    assert found["swin_sam"]["difference"]["mean"] == 0
    assert found["swin_sam"]["p_value"] is None
    assert found["swin_sam"]["shares"] is None
    assert set(found["auroc"]) == {"binary", "subtype", "difference"}
    assert (found["n_patients"], found["seeds"]) == (2, [1, 2])


def test_heads_agree_by_index_or_only_in_their_distribution() -> None:
    """Seed 2 of a task has the heads of seed 1 in reverse order; the other task has each contrast doubled."""
    heads = np.array([1.0, 2.0, 4.0])
    contrasts = {
        ("binary", 1): heads, ("binary", 2): heads[::-1], ("subtype", 1): 2 * heads, ("subtype", 2): 2 * heads[::-1],
    }  # fmt: skip
    table = pd.DataFrame(
        {"task": task, "seed": seed, "stage": 1, "block": block, "head": head, "weighted": value}
        for (task, seed), values in contrasts.items()
        for block in (1, 2)
        for head, value in enumerate([99.0, *values])  # 0: all heads together, which doesn't count
    )
    found = head_agreement(table, column="weighted")
    assert found["pair"].tolist() == [SAME_SEED] * 2 + [SAME_TASK] * 2 + [NEITHER] * 2
    by_pair = found.groupby("pair")[["correlation", "distance"]].mean()
    assert by_pair.loc[SAME_SEED].tolist() == pytest.approx([1, 1])  # the same order, twice as much: one octave apart
    assert by_pair.loc[SAME_TASK].tolist() == pytest.approx([-1, 0])  # another order, the same heads
    assert by_pair.loc[NEITHER].tolist() == pytest.approx([-1, 1])

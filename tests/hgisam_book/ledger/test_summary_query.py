"""Queries on the summary of a run: values, differences, data, and invalid content."""

from pathlib import Path
from typing import Any

import pytest

from hgisam.errors import InputError
from hgisam.runs.files import write_json
from hgisam_book.ledger.summary_query import data_of, find_value, read_summary

VALUE = {"mean": 0.5, "ci95": [0.4, 0.6]}
PAIR = {"a": "x", "b": "y", "metric": "dice_slice", "difference": 0.1, "ci95": [-0.05, 0.25]}
SUMMARY: dict[str, Any] = {
    "profile": "laptop", "dataset": "ct-ich", "source": "phantom",
    "segmentation": {"x": {"dice_slice": VALUE, "none": {"mean": None, "ci95": None}, "threshold": 0.1}},
    "comparisons": [PAIR | {"metric": "hd95_mm_slice", "difference": 9.0}, PAIR],
}  # fmt: skip


def test_a_value_is_found_by_its_name() -> None:
    measured = find_value(SUMMARY, "segmentation.x.dice_slice")
    assert measured is not None
    assert (measured.mean, measured.ci95) == (0.5, (0.4, 0.6))


def test_a_difference_is_found_in_either_order_with_its_sign() -> None:
    forward, back = find_value(SUMMARY, "comparisons.x.y"), find_value(SUMMARY, "comparisons.y.x")
    assert forward is not None
    assert back is not None
    assert (forward.mean, forward.ci95) == (0.1, (-0.05, 0.25))
    assert (back.mean, back.ci95) == (-0.1, (-0.25, 0.05))
    without = find_value({"comparisons": [PAIR | {"difference": 0.1, "ci95": None}]}, "comparisons.y.x")
    assert without is not None
    assert without.ci95 is None


@pytest.mark.parametrize(
    "query",
    [
        "segmentation.z.dice_slice",
        "segmentation.x.none",
        "studies.a.b",
        "comparisons.x.z",
        "segmentation.x.threshold.y",
    ],
)
def test_a_missing_value_is_none(query: str) -> None:
    assert find_value(SUMMARY, query) is None


@pytest.mark.parametrize("query", ["segmentation.x.threshold", "segmentation.x"])
def test_a_query_that_leads_to_no_value_is_an_error(query: str) -> None:
    with pytest.raises(InputError, match=query):
        find_value(SUMMARY, query)


@pytest.mark.parametrize("mean", ["high", float("nan")])
def test_a_mean_that_is_no_finite_number_is_an_error(mean: object) -> None:
    with pytest.raises(InputError, match="mean and ci95"):
        find_value({"detection": {"auroc": {"mean": mean, "ci95": None}}}, "detection.auroc")


@pytest.mark.parametrize("stored", [5, [5], [{"a": "x"}], [PAIR | {"difference": "much"}]])
def test_malformed_comparisons_are_an_error(stored: object) -> None:
    with pytest.raises(InputError, match=r"comparisons\.x\.y"):
        find_value({"comparisons": stored}, "comparisons.x.y")


@pytest.mark.parametrize(
    ("dataset", "source", "data"),
    [
        ("ct-ich", "phantom", "phantom"),
        ("ct-ich", "ct-ich", "CT-ICH"),
        ("ct-ich", "a colleague", "ct-ich of a colleague"),
        ("cq500", "cq500", "cq500 of cq500"),
        ("phantom-ct-ich", "ct-ich", "phantom"),
    ],
)
def test_only_the_real_studies_are_ct_ich(dataset: str, source: str, data: str) -> None:
    assert data_of({"dataset": dataset, "source": source}) == data


def test_a_run_without_results_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no summary\.json"):
        read_summary(tmp_path)
    write_json(tmp_path / "summary.json", {"profile": "laptop", "dataset": "ct-ich"})
    with pytest.raises(InputError, match="source"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="other content"):
        read_summary(tmp_path)
    write_json(tmp_path / "summary.json", SUMMARY)
    assert read_summary(tmp_path) == SUMMARY

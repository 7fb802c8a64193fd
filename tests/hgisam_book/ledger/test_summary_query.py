"""What a run's summary says, and what it can't say."""

from pathlib import Path
from typing import Any

import pytest

from hgisam.errors import InputError
from hgisam.runs.files import write_json
from hgisam_book.ledger.summary_query import find, place_of, read_summary

VALUE = {"mean": 0.5, "ci95": [0.4, 0.6]}
PAIR = {"a": "x", "b": "y", "metric": "dice_slice", "difference": 0.1, "ci95": [-0.05, 0.25]}
SUMMARY: dict[str, Any] = {
    "profile": "laptop", "dataset": "ct-ich", "source": "phantom",
    "segmentation": {"x": {"dice_slice": VALUE, "none": {"mean": None, "ci95": None}, "threshold": 0.1}},
    "comparisons": [PAIR | {"metric": "hd95_mm_slice", "difference": 9.0}, PAIR],
}  # fmt: skip


def test_a_value_is_found_by_its_name() -> None:
    measured = find(SUMMARY, "segmentation.x.dice_slice")
    assert measured is not None
    assert (measured.mean, measured.ci95) == (0.5, (0.4, 0.6))


def test_a_difference_is_found_in_either_order_and_turned() -> None:
    forward, back = find(SUMMARY, "comparisons.x.y"), find(SUMMARY, "comparisons.y.x")
    assert forward is not None
    assert back is not None
    assert (forward.mean, forward.ci95) == (0.1, (-0.05, 0.25))
    assert (back.mean, back.ci95) == (-0.1, (-0.25, 0.05))
    without = find({"comparisons": [PAIR | {"difference": 0.1, "ci95": None}]}, "comparisons.y.x")
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
def test_what_a_run_does_not_have_is_none(query: str) -> None:
    assert find(SUMMARY, query) is None


@pytest.mark.parametrize("query", ["segmentation.x.threshold", "segmentation.x"])
def test_something_else_than_a_value_is_refused(query: str) -> None:
    with pytest.raises(InputError, match=query):
        find(SUMMARY, query)


@pytest.mark.parametrize("mean", ["high", float("nan")])
def test_no_number_is_refused(mean: object) -> None:
    with pytest.raises(InputError, match="mean and ci95"):
        find({"detection": {"auroc": {"mean": mean, "ci95": None}}}, "detection.auroc")


@pytest.mark.parametrize("stored", [5, [5], [{"a": "x"}], [PAIR | {"difference": "much"}]])
def test_malformed_comparisons_are_refused(stored: object) -> None:
    with pytest.raises(InputError, match=r"comparisons\.x\.y"):
        find({"comparisons": stored}, "comparisons.x.y")


@pytest.mark.parametrize(
    ("dataset", "source", "place"),
    [
        ("ct-ich", "phantom", "phantom"),
        ("ct-ich", "ct-ich", "CT-ICH"),
        ("ct-ich", "a colleague", "ct-ich of a colleague"),
        ("cq500", "cq500", "cq500 of cq500"),
        ("phantom-ct-ich", "ct-ich", "phantom"),
    ],
)
def test_only_the_real_studies_are_ct_ich(dataset: str, source: str, place: str) -> None:
    assert place_of({"dataset": dataset, "source": source}) == place


def test_a_run_without_results_is_a_mistake_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no summary\.json"):
        read_summary(tmp_path)
    write_json(tmp_path / "summary.json", {"profile": "laptop", "dataset": "ct-ich"})
    with pytest.raises(InputError, match="source"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(InputError, match="another content"):
        read_summary(tmp_path)
    write_json(tmp_path / "summary.json", SUMMARY)
    assert read_summary(tmp_path) == SUMMARY

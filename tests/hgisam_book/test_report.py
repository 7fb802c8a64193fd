"""Notes, estimates and tables of the notebooks."""

from pathlib import Path

import pandas as pd
import pytest

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import is_phantom
from hgisam.runs.steps import Run
from hgisam_book import report

COMPARED = {
    "a": "hgi_sam", "b": "grad_cam", "difference": 0.1, "ci95": [0.0, 0.2], "p_value": 0.01, "p_holm": 0.02,
    "effect_size": 0.6, "n_patients": 9,
}  # fmt: skip


def test_notes_state_the_limits_of_profile_and_data(tiny: Profile) -> None:
    smoke = report.notes(tiny, phantom=True).data
    assert "`smoke`" in smoke
    assert "mean nothing" in smoke
    assert "phantoms" in smoke
    real = report.notes(load_profile("paper"), phantom=False).data
    assert "mean nothing" not in real
    assert "phantoms" not in real


def test_listed_rows_are_text() -> None:
    table = pd.DataFrame({"label": ["a", "b"], "mean": [0.5, 0.25]})
    assert report.listed(table, "{label} {mean:.1f}") == "a 0.5; b 0.2"
    assert report.listed(table, "{label}", ", ") == "a, b"
    assert report.listed(table.head(0), "{label}") == ""


def test_method_rows_have_display_names_and_one_group() -> None:
    table = pd.DataFrame({"mean": [0.5, 0.1]}, index=["hgi_sam", "whole brain"])
    rows = report.method_rows(table, "test patients")
    assert rows["label"].tolist() == ["HGI-SAM", "whole brain"]
    assert rows["method"].unique().tolist() == ["test patients"]
    assert rows.index.tolist() == [0, 1]


@pytest.mark.parametrize(("source", "expected"), [("phantom", True), ("rsna", False)])
def test_is_phantom_goes_by_the_source(source: str, expected: bool) -> None:
    assert is_phantom({"name": "rsna", "source": source}) is expected


def test_estimate_reads_as_text() -> None:
    assert report.estimate({"mean": 0.514, "ci95": [0.4, 0.6]}) == "0.51 (0.40 to 0.60)"
    assert report.estimate({"mean": 2.0, "ci95": None}, 1) == "2.0"
    assert report.estimate({"mean": None, "ci95": None}) == "–"
    assert report.estimate(None) == "–"


def test_p_values() -> None:
    assert [report.p_value(p) for p in (None, 0.00002, 0.0312)] == ["–", "< 0.001", "0.031"]


def test_equivalent_scans() -> None:
    assert report.equivalent_scans({"scans": 4.21, "ci95": [2.0, None]}, 16) == (
        "4.2 annotated scans (95 % interval 2.0 to more than 16)"
    )
    assert report.equivalent_scans({"scans": None, "ci95": [9.0, None]}, 16).startswith("more than 16 annotated scans")


def test_tables_hold_every_method_and_the_unit_of_the_threshold_baseline() -> None:
    value = {"mean": 0.5, "ci95": [0.4, 0.6]}
    names = ("dice_slice", "iou_slice", "dice_scan", "false_positive_ml")
    figures = {name + suffix: value for name in names for suffix in ("", "_gated")}
    summary = {name: {"threshold": 52.0, **figures} for name in ("hgi_sam", "hu_threshold")}
    table = report.segmentation_table(summary)
    assert list(table.index) == ["HGI-SAM", "HU threshold"]
    assert list(table["threshold"]) == ["52", "52 HU"]
    assert (report.segmentation_table(summary, gated=True)["Dice per slice"] == "0.50 (0.40 to 0.60)").all()


def test_groups_are_columns_in_the_given_order() -> None:
    groups = {"small": {"mean": 0.1, "ci95": None}, "large": {"mean": 0.9, "ci95": [0.8, 1.0]}}
    table = report.groups_table({"unet": {"dice_by_size": groups}}, "dice_by_size", {"large": "≥ 5", "small": "< 5"})
    assert table.loc["U-Net"].to_dict() == {"≥ 5": "0.90 (0.80 to 1.00)", "< 5": "0.10"}


def test_interval_rows_find_nested_figures_and_leave_out_none() -> None:
    measured = {"mean": 0.5, "ci95": [0.4, 0.6]}
    types = {"subdural": measured, "epidural": {"mean": None, "ci95": None}}
    rows = report.interval_rows(
        {"hgi_sam": {"dice_by_type": types}}, {"dice_by_type.subdural": "SDH", "dice_by_type.epidural": "EDH"}
    )
    expected = pd.DataFrame([{"label": "SDH", "method": "hgi_sam", "mean": 0.5, "low": 0.4, "high": 0.6}])
    pd.testing.assert_frame_equal(rows, expected)


def test_interval_rows_of_nothing_have_their_columns() -> None:
    assert list(report.interval_rows({}, {"dice_slice": "Dice"}).columns) == ["label", "method", "mean", "low", "high"]


def test_comparison_table() -> None:
    table = report.comparison_table([COMPARED])
    assert table.loc["HGI-SAM − GradCAM"].tolist() == ["0.100 (0.000 to 0.200)", "0.010", "0.020", "+0.60", 9]
    assert "p, Holm for 1 pairs" in table
    assert "p, Holm for 7 pairs" in report.comparison_table([COMPARED], tests=7)
    assert report.comparison_table([]).empty


def test_outcomes_count_wins_losses_and_ties_by_the_interval() -> None:
    lost = {"a": "unet", "b": "hgi_sam", "ci95": [0.1, 0.3]}
    tied = {"a": "hgi_sam", "b": "swin_sam", "ci95": [-0.1, 0.1]}
    won = {"a": "hgi_sam", "b": "hu_threshold", "ci95": [0.01, 0.1]}
    other = {"a": "unet", "b": "swin_sam", "ci95": [0.1, 0.2]}
    untested = {"a": "hgi_sam", "b": "grad_cam", "ci95": None}
    found = report.outcomes([lost, tied, won, other, untested], "hgi_sam")
    names = report.METHOD_NAMES
    assert found == (
        f"ahead of 1 ({names['hu_threshold']}), behind 1 ({names['unet']}), "
        f"undecided with 2 ({names['swin_sam']}; {names['grad_cam']})"
    )
    assert report.outcome(COMPARED) == "undecided"  # its interval ends at 0


def test_pairs_that_only_the_interval_separates_are_named() -> None:
    pair = {"a": "hgi_sam", "b": "grad_cam", "ci95": [0.1, 0.2], "p_holm": 0.2}
    assert report.not_corrected([pair]) == "HGI-SAM and GradCAM"
    assert report.not_corrected([pair | {"p_holm": 0.01}, pair | {"ci95": [-0.1, 0.2]}]) == "none"


def test_thresholds_at_the_end_of_the_range_are_named() -> None:
    grid = [0.1, 0.2, 0.3]
    chosen = {
        "hgi_sam": {"threshold": 0.2, "grid": grid, "folds": [0.1, 0.2]},
        "grad_cam": {"threshold": 0.2, "grid": grid},
        "x": {"threshold": 0.3, "grid": grid},
        "hgi_sam_otsu": {"threshold": 0.5, "grid": [0.5], "folds": [0.5, 0.5]},
    }
    assert report.at_grid_ends(chosen) == "HGI-SAM (1 of 2); x (1 of 1)"
    assert report.at_grid_ends({"grad_cam": chosen["grad_cam"]}) == "none"


def test_ablations_that_only_the_interval_separates_are_listed_without_a_star() -> None:
    columns = ["group", "difference", "difference_low", "difference_high", "p_holm"]
    rows = {
        "HGI-SAM": ("reference", 0.0, 0.0, 0.0, None),
        "a": ("x", -0.2, -0.3, -0.1, 0.01),
        "b": ("x", -0.1, -0.2, -0.05, 0.3),
        "c": ("x", 0.1, -0.1, 0.2, 0.5),
        "d": ("x", -0.0004, -0.0005, -0.0003, 0.01),
    }
    text = report.ablation_outcomes(pd.DataFrame.from_dict(rows, orient="index", columns=columns))
    assert text.splitlines() == [
        "- Worse with the change: a (-0.200) *; b (-0.100).",
        "- Better with the change: none.",
        "- Undecided: d (-0.000); c (+0.100).",
    ]


def test_comparison_matrix_flips_the_sign_and_stars_significant_differences() -> None:
    same = COMPARED | {"b": "unet", "difference": -0.3, "p_value": None, "p_holm": None}
    table = report.comparison_matrix([COMPARED, same])
    assert table.loc["HGI-SAM"].tolist() == ["", "+0.10 *", "-0.30"]
    assert table["HGI-SAM"].tolist() == ["", "-0.10 *", "+0.30"]
    assert report.comparison_matrix([COMPARED], significant=0.02).loc["HGI-SAM", "GradCAM"] == "+0.10"
    none = COMPARED | {"difference": None, "ci95": None, "p_value": None, "p_holm": None}
    assert report.comparison_matrix([none]).loc["HGI-SAM"].tolist() == ["", "–"]


def test_thresholds_of_folds_are_a_range_and_a_rule_has_none() -> None:
    found = {
        "hgi_sam": {"threshold": 0.2, "thresholds_by_fold": [0.3, 0.1, 0.2]},
        "hu_threshold": {"threshold": 50.0, "thresholds_by_fold": [50.0, 50.0]},
        "hgi_sam_otsu": {"threshold": 0.5, "thresholds_by_fold": [0.5]},
    }
    assert report.segmentation_table(found)["threshold"].tolist() == ["0.1 to 0.3", "50 HU", "none"]


def test_error_table_counts_undefined_distances() -> None:
    value = {"mean": 3.0, "ci95": None}
    keys = ("hd95_mm_slice", "volume_error_ml", "absolute_volume_error_ml", "relative_volume_error")
    figures = dict.fromkeys(keys, value) | {"n_hd95_undefined": 2, "n_slices": 9}
    row = report.error_table({"hgi_sam": figures}).loc["HGI-SAM"]
    assert row.tolist() == ["3.0", "2 of 9", "3.0", "3.0", "3.00"]


def test_manifest_is_collapsed_and_lists_inputs_and_outputs(tiny: Profile, tmp_path: Path) -> None:
    def work(folder: Path) -> None:
        (folder / "result.txt").write_text("x")

    step = Run(tiny, tmp_path).make("train", work, code=[], sections=("train",), inputs={"data": "ab" * 32})
    html = report.manifest(tiny, step, **{"prepared set": "cd" * 32}).data
    assert html.startswith("<details>")
    for text in ("smoke", "read: data", "abab", "wrote: result.txt", "prepared set", "cdcd", "torch", "cores"):
        assert text in html
    assert str(tmp_path) not in html


def test_ablations_as_table_and_as_differences() -> None:
    table = pd.DataFrame(
        {
            "group": ["reference", "stages"], "changes": ["", "which stages enter"], "against": ["a", "a"],
            "threshold": [0.0004, 0.1521], "mean": [0.5, 0.4], "low": [0.4, 0.3], "high": [0.6, 0.5],
            "difference": [0.0, -0.1], "difference_low": [0.0, -0.2], "difference_high": [0.0, -0.05],
            "p_value": [float("nan"), 0.0002], "p_holm": [float("nan"), 0.0123],
        },
        index=["a", "b"],
    )  # fmt: skip
    text = report.ablation_table(table)
    assert text.loc["b"].tolist() == [
        "which stages enter", "0.15", "0.40 (0.30 to 0.50)", "-0.100 (-0.200 to -0.050)", "< 0.001", "0.012", "a",
    ]  # fmt: skip
    assert text.loc["a", ["p", "p, Holm"]].tolist() == ["–", "–"]
    rows = report.difference_rows(table)
    assert rows.to_dict("records") == [{"label": "b", "method": "difference", "mean": -0.1, "low": -0.2, "high": -0.05}]

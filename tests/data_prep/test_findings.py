"""The table of findings on the terminal, and the list of files beside a prepared set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_prep.findings import FINDINGS, findings_table, list_of_files, summary
from data_prep.preparation import prepare

SMALL: dict[str, Any] = {"image_px": 32, "folds": 2, "field_of_view_mm": 300.0}
DESCRIPTIONS = {"files", "studies", "vendors", "left_out", "lesion_removed_fraction", "boxes_of"}


def test_findings_are_counted_whatever_their_form() -> None:
    report = {
        "skipped": [{"file": "a", "reason": "b"}] * 12, "duplicates": 0, "tilted": {"count": 0, "first": []},
        "no_brain": {"count": 3, "first": ["x"]}, "disagreements": {"label_without_mask": 4, "mask_without_label": 1},
    }  # fmt: skip
    assert findings_table(report).splitlines() == [
        "count  finding                               what to do",
        "   12  files or studies skipped              read the reasons in the list",
        "    5  slices whose label and mask disagree  check the annotation of these scans",
        "    3  studies without a brain               look at them: is it a head, in HU?",
    ]
    assert findings_table({"tilted": {"count": 0, "first": []}}) == ""


@pytest.mark.parametrize("kind", ["rsna", "ct-ich"])
def test_each_entry_of_a_report_is_a_finding_or_describes_the_set(
    kind: str, rsna_raw: Path, ct_raw: Path, tmp_path: Path
) -> None:
    out = prepare(kind, {"rsna": rsna_raw, "ct-ich": ct_raw}[kind], tmp_path / "out", **SMALL)
    report = json.loads((out / "dataset.json").read_text())["report"]
    assert set(report) - DESCRIPTIONS <= set(FINDINGS)
    assert summary(out).count("\n") == 0  # nothing was found
    assert not list_of_files(out).exists()


def test_the_list_goes_when_everything_is_right_again(
    ct_raw: Path, tmp_path: Path, report_of: Callable[[Path], dict[str, Any]]
) -> None:
    scan = ct_raw / "ct_scans" / "050.nii"
    whole = scan.read_bytes()
    scan.write_bytes(whole[:100])
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    reason = report_of(out)["skipped"][0]["reason"]
    assert list_of_files(str(out)).read_text().splitlines() == ["file,reason", f"ct_scans/050.nii,{reason}"]
    scan.write_bytes(whole)
    prepare("ct-ich", ct_raw, out, **SMALL)
    assert not list_of_files(out).exists()

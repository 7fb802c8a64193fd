"""Numbers that README and pages open with: from one summary, and equal on every page."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hgisam.errors import InputError
from hgisam.runs.files import read_json
from hgisam_book import headline
from hgisam_book.ledger import read_summary
from hgisam_book.report import SMOKE_NOTE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def summary() -> dict[str, Any]:
    return read_summary(ROOT / "book" / "recorded" / "laptop-2-cores")


def test_results_are_those_of_the_summary(summary: dict[str, Any]) -> None:
    summary["segmentation"]["hgi_sam"]["dice_slice"] = {"mean": 0.1234, "ci95": [0.1, 0.2]}
    del summary["segmentation"]["unet_published"]
    text = headline.results(summary)
    assert "| HGI-SAM | slice labels | 0.12 (0.10 to 0.20) |" in text
    assert "published" not in text.split("Compared")[0]


def test_a_run_without_masks_has_only_detection(summary: dict[str, Any]) -> None:
    summary |= {"segmentation": {}, "comparisons": []}
    text = headline.results(summary)
    assert "AUROC" in text
    assert "|" not in text
    assert "Dice" not in text


def test_numbers_of_the_smoke_profile_say_that_they_mean_nothing(summary: dict[str, Any]) -> None:
    assert SMOKE_NOTE not in headline.results(summary)
    assert headline.results(summary | {"profile": "smoke"}).startswith(SMOKE_NOTE)


def test_targets_are_the_verdicts_of_the_ledger(summary: dict[str, Any]) -> None:
    summary["segmentation"]["hgi_sam"]["dice_slice"] = {"mean": 0.99, "ci95": [0.9, 1.0]}
    row = next(line for line in headline.targets(summary).splitlines() if "segments bleeding slices" in line)
    assert row.endswith("| 0.99 (0.90 to 1.00) | ≥ 0.45 | met |")
    summary["segmentation"]["hgi_sam"]["dice_slice"] = {"mean": 0.01, "ci95": [0.0, 0.1]}
    assert "| 0.01 (0.00 to 0.10) | ≥ 0.45 | missed |" in headline.targets(summary)
    del summary["segmentation"]["hgi_sam"]
    row = next(line for line in headline.targets(summary).splitlines() if "segments bleeding slices" in line)
    assert row.endswith("|  | ≥ 0.45 | not measured |")


def test_findings_need_all_methods_and_the_study(summary: dict[str, Any]) -> None:
    text = headline.findings(summary)
    assert len(text.splitlines()) == 6
    assert f"{len(summary['studies']['binary_vs_subtype']['seeds'])} seeds" in text
    with pytest.raises(InputError, match="got no study of tasks"):
        headline.findings(summary | {"studies": {}})
    del summary["segmentation"]["unet"]
    with pytest.raises(InputError, match="got no unet"):
        headline.findings(summary)


def test_findings_name_what_other_seeds_and_baselines_say(summary: dict[str, Any]) -> None:
    study = summary["studies"]["binary_vs_subtype"]
    study["hgi_sam"]["binary"], study["swin_sam"]["binary"] = ({"mean": m, "ci95": [m, m]} for m in (0.3, 0.2))
    study["hgi_sam"]["by_seed"] = {"1": 0.1, "2": 0.2}
    text = headline.findings(summary)
    assert "a difference of +0.100, inside that interval." in text
    assert "+0.100, +0.200, all on one side of zero." in text
    study["hgi_sam"]["binary"], study["hgi_sam"]["by_seed"] = study["swin_sam"]["binary"], {"1": 0.1, "2": -0.2}
    summary["segmentation"]["swin_unetr"]["dice_slice"] = {"mean": 0.9, "ci95": [0.8, 1.0]}
    text = headline.findings(summary)
    assert "a difference of +0.000, outside that interval" in text
    assert "not all on one side of zero, so this is undecided" in text
    assert "trained on masks Swin-UNETR, 0.90 (0.80 to 1.00)" in text


def test_real_heads_are_those_of_the_record() -> None:
    record = read_json(ROOT / "book" / "recorded" / "real_heads.json")
    record["bleeding"]["methods"]["hgi_sam"]["dice"] = 0.777
    for head in record["normal"]:
        head |= {"slices": 10, "above_operating_point": 1}
    text = headline.real_heads(record)
    assert "Dice 0.78 with HGI-SAM" in text
    assert "HGI-SAM is above 3 of the 3 methods without a network" in text
    assert "ahead of density alone, by 0.01 or more, in 1." in text
    record["bleeding"]["calibrated"]["hgi_sam_density"] |= {"dice": 0.666, "dice_gated": 0.555}
    assert "the fused map 0.67, or 0.56 where" in headline.real_heads(record)
    record["bleeding"]["calibrated"] = {}
    assert "which `hgisam segment` takes" not in headline.real_heads(record)
    heads = len(record["normal"])
    assert f"{heads} of {10 * heads} slices" in text


def test_blocks_are_filled_and_an_unknown_one_is_an_error() -> None:
    page = "a\n<!-- numbers: x -->\nold\n<!-- end -->\nb"
    filled = headline.fill(page, {"x": "new"}, page="p.md")
    assert filled == "a\n<!-- numbers: x -->\n\nnew\n\n<!-- end -->\nb"
    assert headline.fill(filled, {"x": "new"}, page="p.md") == filled
    with pytest.raises(InputError, match=r"p\.md: got a block x"):
        headline.fill(page, {"y": ""}, page="p.md")


def test_the_gate_finds_a_typed_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = [sys.executable, str(ROOT / "ci" / "write_numbers.py"), "--check"]
    assert subprocess.run(gate, capture_output=True, check=False).returncode == 0
    monkeypatch.syspath_prepend(str(ROOT / "ci"))
    import write_numbers

    readme = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    readme.write_text(text.replace("| HGI-SAM | slice labels | 0.", "| HGI-SAM | slice labels | 9."), encoding="utf-8")
    monkeypatch.setattr(write_numbers, "PAGES", (readme,))
    monkeypatch.setattr(sys, "argv", gate[1:])
    assert write_numbers.main() == 1
    monkeypatch.setattr(sys, "argv", gate[1:2])
    assert write_numbers.main() == 0
    assert readme.read_text(encoding="utf-8") == text

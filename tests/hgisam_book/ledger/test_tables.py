"""Tables of the ledger in the terminal and on a page."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from hgisam.__main__ import main
from hgisam.runs.files import write_json
from hgisam_book.ledger.claims import Ledger, load_ledger, verdicts
from hgisam_book.ledger.tables import WIDTH, count_verdicts, failing, ledger_table
from tests.hgisam_book.ledger.test_claims import TARGET, full_summary, row, summary

Call = Callable[..., tuple[int, str]]
LEDGER = Ledger.model_validate({"not_judged": [], "claims": [row(see="06_results#where"), row(**TARGET)]})


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`hgisam ledger` in this process: exit code, and all its output."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hgisam", "ledger", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return int(end.value.code or 0), output.out + output.err

    return call


def run_of(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", content)
    return folder


def phantom(dice: float) -> dict[str, Any]:
    """Summary of a phantom run; it meets its targets if its Dice is high enough."""
    figures = {"hgi_sam": {"dice_slice": {"mean": dice, "ci95": [dice, dice]}}}
    return summary("phantom", profile="laptop") | {"segmentation": figures}


def cells(html: str, name: str) -> list[str]:
    line = BeautifulSoup(html, "html.parser").select_one(f"#row-{name}")
    assert line is not None
    return [cell.get_text(" ", strip=True) for cell in line.find_all("td")]


def test_strict_exits_with_one_only_if_a_claim_with_a_run_fails(tmp_path: Path, ledger: Call) -> None:
    good, bad = run_of(tmp_path / "good", phantom(0.46)), run_of(tmp_path / "bad", phantom(0.30))
    smoke = run_of(tmp_path / "smoke", phantom(0.1) | {"profile": "smoke"})
    real = run_of(tmp_path / "real", phantom(0.30) | {"source": "ct-ich"})
    assert ledger("--run", bad)[0] == 0
    assert ledger("--run", good, "--strict")[0] == 0
    assert ledger("--run", smoke, "--strict")[0] == 0
    code, output = ledger("--run", good, "--run", bad, "--strict")
    assert code == 1
    assert "0 PASS, 1 FAIL" in output  # a claim counts once
    code, output = ledger("--run", real, "--strict")
    assert code == 1
    assert "a: FAIL." in output


def test_without_a_run_option_all_runs_count_and_none_is_no_error(tmp_path: Path, ledger: Call) -> None:
    code, output = ledger("--strict", "--runs-dir", tmp_path)
    assert (code, output.count("PASS"), output.count("FAIL")) == (0, 1, 1)  # in the count only
    assert f"{len(load_ledger().claims)} NOT RUN" in output
    run_of(tmp_path / "laptop", phantom(0.46))
    shown = "".join(ledger("--runs-dir", tmp_path)[1].split())  # a long path is wrapped anywhere
    assert f"{tmp_path / 'laptop'}:profilelaptop,thephantom" in shown


def test_user_errors_are_one_line_with_exit_code_two(tmp_path: Path, ledger: Call) -> None:
    code, output = ledger("--run", tmp_path / "nowhere")
    assert code == 2
    assert output.count("\n") == 1
    assert "no summary.json" in output


def test_the_terminal_shows_each_claim_within_its_width(tmp_path: Path, ledger: Call) -> None:
    runs = [run_of(tmp_path / name, full_summary() | {"source": name}) for name in ("phantom", "ct-ich")]
    arguments = [argument for run in runs for argument in ("--run", run)]
    _, output = ledger(*arguments)
    tables = output[output.index("Claims of") :]
    assert max(map(len, tables.splitlines())) <= WIDTH
    first_words = {line.split()[0] for line in tables.splitlines() if line.strip()}
    assert {claim.id for claim in load_ledger().claims} <= first_words
    assert "reproduced on CT-ICH" in tables
    assert "met on the phantom" in tables


def test_a_page_shows_verdict_value_and_run_in_the_right_column() -> None:
    table = verdicts(LEDGER, {"this run": summary("phantom"), "other": summary("ct-ich", dice=0.2)})
    html = ledger_table(table, "published", own_run="this run").data
    heads = [head.get_text() for head in BeautifulSoup(html, "html.parser").find_all("th")]
    assert heads == ["claim", "target", "reproduced on CT-ICH", "holds on the phantom"]
    claim, target, *found = cells(html, "a")
    assert target == "≥ 0.44 − 0.02"
    assert found == ["FAIL 0.200 (0.100 to 0.300) other", "yes 0.500 (0.400 to 0.600) this run"]
    assert claim.startswith("a It works. Somebody 2020, Dice → 06_results")
    assert "Tolerance: Seeds differ." in claim
    assert 'href="06_results.html#where"' in html
    assert "row-t" not in html
    assert cells(ledger_table(table, "own target", own_run="this run").data, "t")[2].startswith("PASS 0.500")


def test_only_values_of_the_books_run_are_linked() -> None:
    for summaries in ({}, {"recorded": summary("phantom")}):
        html = ledger_table(verdicts(LEDGER, summaries), "published", own_run="this run").data
        assert cells(html, "a")[0].startswith("a It works. Somebody 2020, Dice Tolerance")
        assert "href" not in html


def test_the_explanation_is_shown_only_where_a_claim_fails() -> None:
    good, bad = summary("phantom", dice=0.5), summary("phantom", dice=0.2)
    for run, shown in ((good, False), (bad, True)):
        table = verdicts(LEDGER, {"this run": run})
        assert ("It is small." in ledger_table(table, "published", own_run="this run").data) is shown
        assert failing(table)["id"].tolist() == (["a", "t"] if shown else [])


def test_fail_takes_precedence_over_no() -> None:
    table = verdicts(LEDGER, {"one": summary("phantom", dice=0.2), "two": summary("ct-ich", dice=0.2)})
    assert dict(zip(failing(table)["id"], failing(table)["verdict"], strict=True)) == {"a": "FAIL", "t": "FAIL"}
    assert count_verdicts(table) == "0 PASS, 2 FAIL, 0 NOT RUN"


def test_names_are_escaped() -> None:
    claims = Ledger.model_validate({"not_judged": [], "claims": [row(claim="Dice <b> & more")]})
    html = ledger_table(verdicts(claims, {"<i>": summary()}), "published", own_run="<i>").data
    assert BeautifulSoup(html, "html.parser").select("td b b, i") == []
    assert cells(html, "a")[2].endswith("<i>")


def test_a_claim_counts_once_and_fails_if_it_fails_in_any_run() -> None:
    good, bad = summary("phantom", dice=0.5), summary("phantom", dice=0.2)
    assert count_verdicts(verdicts(LEDGER, {"this run": good, "recorded": good})) == "1 PASS, 0 FAIL, 1 NOT RUN"
    assert count_verdicts(verdicts(LEDGER, {"this run": good, "recorded": bad})) == "0 PASS, 1 FAIL, 1 NOT RUN"
    empty = good | {"segmentation": {}, "comparisons": []}
    assert count_verdicts(verdicts(LEDGER, {"this run": empty, "recorded": good})) == "1 PASS, 0 FAIL, 1 NOT RUN"

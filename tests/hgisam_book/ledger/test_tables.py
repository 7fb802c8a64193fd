"""What readers see of the ledger, in the terminal and on a page."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from hgisam.runs.files import write_json
from hgisam_book.__main__ import main
from hgisam_book.ledger.claims import Ledger, load_ledger, verdicts
from hgisam_book.ledger.tables import WIDTH, count_words, failing, ledger_table
from tests.hgisam_book.ledger.test_claims import TARGET, full_summary, row, summary

Call = Callable[..., tuple[int, str]]
LEDGER = Ledger.model_validate({"not_judged": [], "claims": [row(see="06_results#where"), row(**TARGET)]})


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`hgisam-book ledger` in this process: exit code, and all that it said."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hgisam-book", "ledger", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return call


def run_of(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", content)
    return folder


def phantom(dice: float) -> dict[str, Any]:
    """A phantom run that meets the targets it can be held against if its Dice is high enough."""
    figures = {"hgi_sam": {"dice_slice": {"mean": dice, "ci95": [dice, dice]}}}
    return summary("phantom", profile="laptop") | {"segmentation": figures}


def cells(html: str, name: str) -> list[str]:
    line = BeautifulSoup(html, "html.parser").select_one(f"#row-{name}")
    assert line is not None
    return [cell.get_text(" ", strip=True) for cell in line.find_all("td")]


def test_strict_exits_with_one_only_where_a_row_that_has_run_fails(tmp_path: Path, ledger: Call) -> None:
    good, bad = run_of(tmp_path / "good", phantom(0.46)), run_of(tmp_path / "bad", phantom(0.30))
    smoke = run_of(tmp_path / "smoke", phantom(0.1) | {"profile": "smoke"})
    real = run_of(tmp_path / "real", phantom(0.30) | {"source": "ct-ich"})
    assert ledger("--run", bad)[0] == 0
    assert ledger("--run", good, "--strict")[0] == 0
    assert ledger("--run", smoke, "--strict")[0] == 0
    code, said = ledger("--run", good, "--run", bad, "--strict")
    assert code == 1
    assert "1 PASS, 1 FAIL" in said
    code, said = ledger("--run", real, "--strict")
    assert code == 1
    assert "a: FAIL." in said


def test_without_a_run_all_runs_there_are_taken_and_none_is_no_mistake(tmp_path: Path, ledger: Call) -> None:
    code, said = ledger("--strict", "--runs-dir", tmp_path)
    assert (code, said.count("PASS"), said.count("FAIL")) == (0, 1, 1)  # in the count alone
    assert f"{len(load_ledger().claims)} NOT RUN" in said
    run_of(tmp_path / "laptop", phantom(0.46))
    first = "".join(ledger("--runs-dir", tmp_path)[1].splitlines()[:3])  # a long path is wrapped
    assert f"{tmp_path / 'laptop'}: profile laptop, the phantom" in first.replace("  ", " ")


def test_mistakes_are_one_line_and_two(tmp_path: Path, ledger: Call) -> None:
    code, said = ledger("--run", tmp_path / "nowhere")
    assert code == 2
    assert said.count("\n") == 1
    assert "no summary.json" in said


def test_the_terminal_shows_each_row_and_never_more_than_its_width(tmp_path: Path, ledger: Call) -> None:
    runs = [run_of(tmp_path / name, full_summary() | {"source": name}) for name in ("phantom", "ct-ich")]
    arguments = [argument for run in runs for argument in ("--run", run)]
    _, said = ledger(*arguments)
    tables = said[said.index("Claims of") :]
    assert max(map(len, tables.splitlines())) <= WIDTH
    first_words = {line.split()[0] for line in tables.splitlines() if line.strip()}
    assert {claim.id for claim in load_ledger().claims} <= first_words
    assert "reproduced on CT-ICH" in tables
    assert "met on the phantom" in tables


def test_a_page_shows_verdict_value_and_run_in_the_right_column() -> None:
    table = verdicts(LEDGER, {"this run": summary("phantom"), "other": summary("ct-ich", dice=0.2)})
    html = ledger_table(table, "published", own_run="this run").data
    heads = [head.get_text() for head in BeautifulSoup(html, "html.parser").find_all("th")]
    assert heads == ["claim", "wanted", "reproduced on CT-ICH", "holds on the phantom"]
    claim, wanted, *found = cells(html, "a")
    assert wanted == "≥ 0.44 − 0.02"
    assert found == ["FAIL 0.200 (0.100 to 0.300) other", "yes 0.500 (0.400 to 0.600) this run"]
    assert claim.startswith("a It works. Somebody 2020, Dice → 06_results")
    assert "Tolerance: Seeds differ." in claim
    assert 'href="06_results.html#where"' in html
    assert "row-t" not in html
    assert cells(ledger_table(table, "own target", own_run="this run").data, "t")[2].startswith("PASS 0.500")


def test_only_what_the_other_pages_show_is_linked() -> None:
    for summaries in ({}, {"recorded": summary("phantom")}):
        html = ledger_table(verdicts(LEDGER, summaries), "published", own_run="this run").data
        assert cells(html, "a")[0].startswith("a It works. Somebody 2020, Dice Tolerance")
        assert "href" not in html


def test_the_explanation_stands_where_a_row_fails_and_nowhere_else() -> None:
    good, bad = summary("phantom", dice=0.5), summary("phantom", dice=0.2)
    for run, shown in ((good, False), (bad, True)):
        table = verdicts(LEDGER, {"this run": run})
        assert ("It is small." in ledger_table(table, "published", own_run="this run").data) is shown
        assert failing(table)["id"].tolist() == (["a", "t"] if shown else [])


def test_a_failure_is_named_before_what_only_does_not_hold() -> None:
    table = verdicts(LEDGER, {"one": summary("phantom", dice=0.2), "two": summary("ct-ich", dice=0.2)})
    assert dict(zip(failing(table)["id"], failing(table)["verdict"], strict=True)) == {"a": "FAIL", "t": "FAIL"}
    assert count_words(table) == "0 PASS, 2 FAIL, 0 NOT RUN"


def test_what_a_name_holds_is_text_not_markup() -> None:
    claims = Ledger.model_validate({"not_judged": [], "claims": [row(claim="Dice <b> & more")]})
    html = ledger_table(verdicts(claims, {"<i>": summary()}), "published", own_run="<i>").data
    assert BeautifulSoup(html, "html.parser").select("td b b, i") == []
    assert cells(html, "a")[2].endswith("<i>")

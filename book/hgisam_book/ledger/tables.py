"""Tables of the ledger: for the terminal, and as HTML for a page of the book."""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hgisam_book.ledger.claims import FAIL, NO, NOT_RUN, PASS, YES
from hgisam_book.report import estimate

WIDTH = 100  # columns of the terminal
TITLES = {
    "published": "Claims of the method's authors",
    "peer": "Results of others on the same data",
    "own target": "Own targets",
}
STYLES = {PASS: "bold green", FAIL: "bold red", YES: "green", NO: "red"}
DIGITS = 3


def print_ledger(verdicts: pd.DataFrame) -> None:
    """Print the runs, the tables of all claims, explanations of failed claims, and the number of claims by verdict.

    Args:
        verdicts: From `hgisam_book.ledger.claims.verdicts`.
    """
    console = Console(width=WIDTH, highlight=False)
    runs = verdicts[verdicts["run"] != ""].drop_duplicates("run")[["run", "profile", "data"]]
    numbers = {run: number for number, run in enumerate(runs["run"], start=1)}
    for row in runs.to_dict("records"):
        about = f"profile {row['profile']}, {_data_title(row['data'])}"
        console.print(f"({numbers[row['run']]}) {row['run']}: {about}", markup=False)
    for title, rows, columns in _parts(verdicts):
        table = Table("id", "claim", "target", *columns.values(), title=title, title_justify="left", box=SIMPLE)
        for _, mine in rows.groupby("id", sort=False):
            claim, found = mine.iloc[0], [mine[mine["data"] == data] for data in columns]
            text = Text.assemble(claim["claim"], (f" {claim['unit']} → {claim['see'].partition('#')[0]}", "dim"))
            table.add_row(claim["id"], text, claim["target"], *(_terminal_cell(each, numbers) for each in found))
        console.print(table)
    for row in failing(verdicts).to_dict("records"):
        console.print(Text.assemble((f"{row['id']}: {row['verdict']}. ", "bold"), row["explanation"]))
    console.print(count_verdicts(verdicts))


def ledger_table(verdicts: pd.DataFrame, kind: str, *, own_run: str) -> HTML:
    """HTML table of the claims of one kind.

    Args:
        verdicts: From `hgisam_book.ledger.claims.verdicts`.
        kind: "published", "peer" or "own target".
        own_run: Name of the run that the book shows; only its values link to a page.
    """
    tables = [_html_part(rows, columns, own_run) for _, rows, columns in _parts(verdicts[verdicts["kind"] == kind])]
    return HTML("".join(tables))  # type: ignore[no-untyped-call]


def failing(verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row per claim that fails on its data set (FAIL) or does not hold on other data ("no"); FAIL comes first."""
    rows = verdicts[verdicts["verdict"].isin([FAIL, NO])]
    return (
        rows.sort_values("verdict", key=lambda verdict: verdict != FAIL, kind="stable")
        .drop_duplicates("id")
        .sort_index()
    )


def count_verdicts(verdicts: pd.DataFrame) -> str:
    """Number of claims with PASS, FAIL and NOT RUN, as text.

    A claim counts once, on its own data set: FAIL if it fails in any run, else PASS if it holds in any.
    """
    on_own_data = verdicts[verdicts["data"] == verdicts["dataset"]]
    worst_first = on_own_data.sort_values("verdict", key=lambda column: column.map((FAIL, PASS, NOT_RUN).index))
    counts = worst_first.drop_duplicates("id")["verdict"].value_counts()
    return ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in (PASS, FAIL, NOT_RUN))


def _parts(verdicts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, str]]]:
    """Title, rows, and data → column heading of each table; the data set of the claims comes first."""
    for _, rows in verdicts.groupby(["kind", "dataset"], sort=False):
        kind, dataset = rows["kind"].iloc[0], rows["dataset"].iloc[0]
        columns = {dataset: f"{'met' if kind == 'own target' else 'reproduced'} on {_data_title(dataset)}"}
        others = [data for data in rows["data"].unique() if data != dataset]
        yield TITLES[kind], rows, columns | {data: f"holds on {_data_title(data)}" for data in others}


def _data_title(data: str) -> str:
    return "the phantom" if data == "phantom" else data


def value_words(row: Mapping[Any, Any], digits: int = DIGITS) -> str:
    """Value with its interval of a row of `verdicts`, as text; empty if there is no value."""
    if pd.isna(row["mean"]):
        return ""
    ends = None if pd.isna(row["low"]) else (row["low"], row["high"])
    return estimate({"mean": row["mean"], "ci95": ends}, digits)


def _terminal_cell(rows: pd.DataFrame, numbers: Mapping[str, int]) -> Text:
    """One line per run: verdict, value, number of the run."""
    lines = []
    for row in rows.to_dict("records"):
        verdict, number = row["verdict"], f" ({numbers[row['run']]})" if row["run"] in numbers else ""
        value = f" {value_words(row)}".rstrip()
        lines.append(Text.assemble((verdict, STYLES.get(verdict, "dim")), value, (number, "dim")))
    return Text("\n").join(lines)


def _html_part(rows: pd.DataFrame, columns: dict[str, str], own_run: str) -> str:
    heads = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in ("claim", "target", *columns.values()))
    body = "".join(_html_claim(mine, columns, own_run) for _, mine in rows.groupby("id", sort=False))
    return f'<table class="dataframe ledger"><thead><tr>{heads}</tr></thead>{body}</table>'


def _html_claim(mine: pd.DataFrame, columns: dict[str, str], own_run: str) -> str:
    """Table row of a claim and, if it fails, a second row with the explanation."""
    claim = mine.iloc[0]
    name, target = html.escape(claim["id"]), html.escape(claim["target"])
    about = html.escape(", ".join(filter(None, (_source_words(claim["source"]), claim["unit"]))))
    if ((mine["run"] == own_run) & mine["mean"].notna()).any():
        page, hashtag, anchor = claim["see"].partition("#")
        about += f' → <a href="{page}.html{hashtag}{anchor}">{page}</a>'
    notes = [about, *([f"Tolerance: {html.escape(claim['because'])}"] if claim["because"] else [])]
    text = f"<b>{name}</b> {html.escape(claim['claim'])}" + "".join(f"<small>{note}</small>" for note in notes)
    cells = (text, target, *(_html_cell(mine[mine["data"] == data]) for data in columns))
    row = f'<tr id="row-{name}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    if len(failing(mine)):
        row += f'<tr><td colspan="{len(cells)}"><small>{html.escape(claim["explanation"])}</small></td></tr>'
    return f"<tbody>{row}</tbody>"


def _html_cell(rows: pd.DataFrame) -> str:
    """One line per run: verdict, value, name of the run."""
    lines = []
    for row in rows.to_dict("records"):
        verdict, run = row["verdict"], f"<small>{html.escape(row['run'])}</small>" if row["run"] else ""
        kind = verdict.lower().replace(" ", "-")
        lines.append(f'<div><span class="verdict {kind}">{verdict}</span> {value_words(row)}{run}</div>')
    return "".join(lines)


def _source_words(key: str) -> str:
    """Citation key as author and year: "rasoulian2023" becomes "Rasoulian 2023"."""
    return re.sub(r"(\D+)(\d+)", r"\1 \2", key).capitalize()

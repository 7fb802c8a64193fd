"""The ledger for readers: in the terminal, and on a page of the book."""

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

WIDTH = 100  # columns of a terminal
TITLES = {
    "published": "Claims of the method's authors",
    "peer": "Numbers of others, for the same data",
    "own target": "Targets of our own",
}
STYLES = {PASS: "bold green", FAIL: "bold red", YES: "green", NO: "red"}
DIGITS = 3


def print_ledger(verdicts: pd.DataFrame) -> None:
    """Prints the runs with their numbers, all tables, why rows that fail may do so, and what was counted.

    Args:
        verdicts: From `hgisam_book.ledger.claims.verdicts`.
    """
    console = Console(width=WIDTH, highlight=False)
    runs = verdicts[verdicts["run"] != ""].drop_duplicates("run")[["run", "profile", "place"]]
    numbers = {run: number for number, run in enumerate(runs["run"], start=1)}
    for row in runs.to_dict("records"):
        about = f"profile {row['profile']}, {_in_words(row['place'])}"
        console.print(f"({numbers[row['run']]}) {row['run']}: {about}", markup=False)
    for title, rows, places in _parts(verdicts):
        table = Table("row", "claim", "wanted", *places.values(), title=title, title_justify="left", box=SIMPLE)
        for _, mine in rows.groupby("id", sort=False):
            claim, found = mine.iloc[0], [mine[mine["place"] == place] for place in places]
            said = Text.assemble(claim["claim"], (f" {claim['unit']} → {claim['see'].partition('#')[0]}", "dim"))
            table.add_row(claim["id"], said, claim["wanted"], *(_terminal_cell(each, numbers) for each in found))
        console.print(table)
    for row in failing(verdicts).to_dict("records"):
        console.print(Text.assemble((f"{row['id']}: {row['verdict']}. ", "bold"), row["explanation"]))
    console.print(count_words(verdicts))


def ledger_table(verdicts: pd.DataFrame, kind: str, *, own_run: str) -> HTML:
    """The claims of one kind as a table of a page.

    Args:
        verdicts: From `hgisam_book.ledger.claims.verdicts`.
        kind: "published", "peer" or "own target".
        own_run: Name of the run that the other pages show; only its values have a place to link to.
    """
    tables = [_html_part(rows, places, own_run) for _, rows, places in _parts(verdicts[verdicts["kind"] == kind])]
    return HTML("".join(tables))  # type: ignore[no-untyped-call]


def failing(verdicts: pd.DataFrame) -> pd.DataFrame:
    """A row for each claim that fails where it was made, or doesn't hold elsewhere; the harder word of the two."""
    rows = verdicts[verdicts["verdict"].isin([FAIL, NO])]
    return (
        rows.sort_values("verdict", key=lambda words: words != FAIL, kind="stable").drop_duplicates("id").sort_index()
    )


def count_words(verdicts: pd.DataFrame) -> str:
    """How many claims got which verdict where they were made, every run counted."""
    asked = verdicts[verdicts["place"] == verdicts["dataset"]]
    counts = asked["verdict"].value_counts()
    return ", ".join(f"{counts.get(word, 0)} {word}" for word in (PASS, FAIL, NOT_RUN))


def _parts(verdicts: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, str]]]:
    """Title, rows, and place → heading of its column: that of the claims first, then where else they were looked at."""
    for _, rows in verdicts.groupby(["kind", "dataset"], sort=False):
        kind, dataset = rows["kind"].iloc[0], rows["dataset"].iloc[0]
        places = {dataset: f"{'met' if kind == 'own target' else 'reproduced'} on {_in_words(dataset)}"}
        others = [place for place in rows["place"].unique() if place != dataset]
        yield TITLES[kind], rows, places | {place: f"holds on {_in_words(place)}" for place in others}


def _in_words(place: str) -> str:
    return "the phantom" if place == "phantom" else place


def _value(row: Mapping[Any, Any]) -> str:
    """A value with its interval; nothing where there is none."""
    if pd.isna(row["mean"]):
        return ""
    ends = None if pd.isna(row["low"]) else (row["low"], row["high"])
    return estimate({"mean": row["mean"], "ci95": ends}, DIGITS)


def _terminal_cell(rows: pd.DataFrame, numbers: Mapping[str, int]) -> Text:
    """A line for each run: verdict, value, number of the run."""
    lines = []
    for row in rows.to_dict("records"):
        word, number = row["verdict"], f" ({numbers[row['run']]})" if row["run"] in numbers else ""
        value = f" {_value(row)}".rstrip()
        lines.append(Text.assemble((word, STYLES.get(word, "dim")), value, (number, "dim")))
    return Text("\n").join(lines)


def _html_part(rows: pd.DataFrame, places: dict[str, str], own_run: str) -> str:
    heads = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in ("claim", "wanted", *places.values()))
    body = "".join(_html_claim(mine, places, own_run) for _, mine in rows.groupby("id", sort=False))
    return f'<table class="dataframe ledger"><thead><tr>{heads}</tr></thead>{body}</table>'


def _html_claim(mine: pd.DataFrame, places: dict[str, str], own_run: str) -> str:
    """A claim's row and, where it fails, one below it with the reason."""
    claim = mine.iloc[0]
    name, wanted = html.escape(claim["id"]), html.escape(claim["wanted"])
    about = html.escape(", ".join(filter(None, (_source_words(claim["source"]), claim["unit"]))))
    if ((mine["run"] == own_run) & mine["mean"].notna()).any():
        page, hashtag, anchor = claim["see"].partition("#")
        about += f' → <a href="{page}.html{hashtag}{anchor}">{page}</a>'
    notes = [about, *([f"Tolerance: {html.escape(claim['because'])}"] if claim["because"] else [])]
    said = f"<b>{name}</b> {html.escape(claim['claim'])}" + "".join(f"<small>{note}</small>" for note in notes)
    cells = (said, wanted, *(_html_cell(mine[mine["place"] == place]) for place in places))
    row = f'<tr id="row-{name}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
    if len(failing(mine)):
        row += f'<tr><td colspan="{len(cells)}"><small>{html.escape(claim["explanation"])}</small></td></tr>'
    return f"<tbody>{row}</tbody>"


def _html_cell(rows: pd.DataFrame) -> str:
    """For each run: verdict, value, and its name in small."""
    lines = []
    for row in rows.to_dict("records"):
        word, run = row["verdict"], f"<small>{html.escape(row['run'])}</small>" if row["run"] else ""
        kind = word.lower().replace(" ", "-")
        lines.append(f'<div><span class="verdict {kind}">{word}</span> {_value(row)}{run}</div>')
    return "".join(lines)


def _source_words(key: str) -> str:
    """A citation key as readers write it: "rasoulian2023" is "Rasoulian 2023"."""
    return re.sub(r"(\D+)(\d+)", r"\1 \2", key).capitalize()

"""Facts about executed notebooks on their pages: run time, machine, reused networks, and how to rerun them."""

import ast
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode

from hgisam.errors import InputError

MACHINE = re.compile(r"<th>machine</th><td>(.*?)</td>")
RUN_THIS = """## Run this chapter

```shell
{command}
```

| parameter | default | description |
| --- | --- | --- |
{table}

An unknown parameter or a value of another type is an error. The exercises of this chapter as a notebook, without
solutions: {{download}}`{name}.ipynb <exercises/{name}.ipynb>`."""
RUN_PAGE = """# About this run

The book was run with the profile {profiles} on {machines}. Versions, hashes and seeds are at the end of each chapter.
{{doc}}`16_your_own_scans` explains which data you can use. `hgisam doctor` shows what *your* machine can run.

| chapter | running time | requires |
| --- | --- | --- |
{rows}
| all of them, added up | {total} | |

Chapters that do not need each other ran side by side. A chapter does not rerun a finished step; its running time is
then the time for reading. Networks of a recorded run are reused if settings and data are the same, and the chapter says
so; `make book TRAIN=all` trains all networks. Results that a reader cannot repeat, such as a run on a larger machine,
are recorded: {{doc}}`15_ledger` compares recorded runs with the claims, and {{doc}}`08_performance`,
{{doc}}`09_training_at_scale` and {{doc}}`16_your_own_scans` show recorded benchmarks.
"""
RESTORE = "Restore it from the repository, or rerun it."


def read_chapter(path: Path) -> NotebookNode:
    """Read and validate a notebook.

    Raises:
        InputError: If it is missing or invalid.
    """
    try:
        chapter = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(chapter, version=4)
        return chapter
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(f"notebook {path}", f"unreadable ({message})", "a Jupyter notebook", RESTORE) from None


def duration(seconds: float) -> str:
    """Format seconds as "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine_of(chapter: NotebookNode) -> str:
    """Hardware from the manifest at the end of an executed chapter."""
    for cell in reversed(chapter.cells):
        for output in cell.get("outputs", []):
            if found := MACHINE.search("".join(output.get("data", {}).get("text/html", ""))):
                return html.unescape(found[1])
    return "an unknown machine"


def profile_of(chapter: NotebookNode) -> str:
    """Name of the profile of an executed chapter."""
    return Path(str(chapter.metadata.get("papermill", {}).get("parameters", {}).get("profile", "laptop"))).stem


def reused_networks(chapter: NotebookNode) -> str:
    """Networks that an executed chapter reused from a recorded run, e.g. "5 of 6 networks"; "" for none."""
    from hgisam_book.recorded.reuse import REUSED  # imports torch, which running a notebook does not need

    outputs = (output for cell in chapter.cells for output in cell.get("outputs", []))
    markdown = "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    reused, count = np.array([(0, 0), *REUSED.findall(markdown)], dtype=int).sum(axis=0)
    return f"{reused} of {count} networks" if reused else ""


def run_time_s(chapter: NotebookNode) -> float:
    """Run time of the cells of an executed chapter in seconds."""
    return float(chapter.metadata.get("papermill", {}).get("duration") or 0.0)


def parameters_of(chapter: NotebookNode) -> dict[str, tuple[str, str]]:
    """Parameters of a notebook: name → default value as Python source, and its comment."""
    cell = next(c for c in chapter.cells if "parameters" in c.metadata.get("tags", []))
    lines = cell.source.splitlines()
    return {
        ast.unparse(statement.target): (
            ast.unparse(statement.value),
            lines[statement.lineno - 1].partition("#")[2].strip(),
        )
        for statement in ast.parse(cell.source).body
        if isinstance(statement, ast.AnnAssign) and statement.value is not None
    }


def recorded_time(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Running time of a chapter in recorded runs, with their machines, as "; 2 min 5 s in …"; "" for none.

    Args:
        name: File name of the notebook without suffix.
        records: Content of `record.json` of each recorded run.
    """
    found = (record for record in records if name in record.get("chapters_s", {}))
    return "".join(
        f"; {duration(record['chapters_s'][name])} in the recorded run `{record['name']}`, on {record['hardware']}"
        for record in found
    )


def with_facts(chapter: NotebookNode, name: str, records: Sequence[Mapping[str, Any]] = ()) -> NotebookNode:
    """Add the running time to the table at the top of an executed chapter, and how to run it before its manifest.

    Args:
        chapter: Executed notebook; changed in place.
        name: File name of the notebook without suffix.
        records: As in `recorded_time`.
    """
    head = chapter.cells[0]
    facts = f"{duration(run_time_s(chapter))} with the profile `{profile_of(chapter)}`, on {machine_of(chapter)}"
    if reused := reused_networks(chapter):
        facts += f"; {reused} were reused from a recorded run, not trained"
    facts += recorded_time(name, records)
    lines = head.source.rstrip().splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("|"))
    head.source = "\n".join([*lines[: last + 1], f"| **Running time** | {facts} |", *lines[last + 1 :]])
    text = RUN_THIS.format(name=name, command=_command(chapter, name), table=_table(chapter))
    at = next((i for i, cell in enumerate(chapter.cells) if cell.get("id") == "manifest"), len(chapter.cells))
    chapter.cells.insert(at, nbformat.v4.new_markdown_cell(text, id="run-this"))
    return chapter


def _command(chapter: NotebookNode, name: str) -> str:
    """Shell command that runs a chapter with the default parameters; empty ones are omitted."""
    parameters = [
        f"-p {key} {ast.literal_eval(value)}" for key, (value, _) in parameters_of(chapter).items() if value != "''"
    ]
    return " \\\n  ".join([f"papermill book/{name}.ipynb out.ipynb", *parameters])


def _table(chapter: NotebookNode) -> str:
    rows = (f"| `{key}` | `{value}` | {comment} |" for key, (value, comment) in parameters_of(chapter).items())
    return "\n".join(rows)


def run_page(chapters: Mapping[str, NotebookNode], needs: Mapping[str, tuple[str, ...]]) -> str:
    """Page about the run: run time, required chapters and machine of each chapter, as MyST Markdown.

    Args:
        chapters: Name → executed notebook, in reading order.
        needs: Name → required chapters.
    """
    rows = []
    for name, chapter in chapters.items():
        earlier = ", ".join(f"{{doc}}`{need}`" for need in needs.get(name, ())) or "–"
        reuse = f"; {reused} reused" if (reused := reused_networks(chapter)) else ""
        rows.append(f"| {{doc}}`{name}` | {duration(run_time_s(chapter))}{reuse} | {earlier} |")
    return RUN_PAGE.format(
        profiles=", ".join(f"`{name}`" for name in dict.fromkeys(map(profile_of, chapters.values()))),
        machines="; ".join(dict.fromkeys(map(machine_of, chapters.values()))),
        rows="\n".join(rows),
        total=duration(sum(map(run_time_s, chapters.values()))),
    )

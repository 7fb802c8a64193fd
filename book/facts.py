"""What pages say about themselves once their notebook has run: how long it took and where, and how to run it again."""

import ast
import html
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import nbformat
import numpy as np
from nbformat import NotebookNode

from hgisam.errors import InputError

MACHINE = re.compile(r"<th>machine</th><td>(.*?)</td>")
TAKEN = re.compile(r"\*\*(\d+) of (\d+) networks were not trained here")
RUN_THIS = """## Run this chapter

```shell
{command}
```

| parameter | default | what it is |
| --- | --- | --- |
{table}

A parameter that is none of these, or of another type, is an error. The exercises of this chapter as a notebook, without
their solutions: {{download}}`{name}.ipynb <exercises/{name}.ipynb>`."""
RUN_PAGE = """# What this run was

Made with the profile {profiles} on {machines}. Versions, hashes and seeds stand at the foot of each chapter; which data
can go in is told in {{doc}}`16_your_own_scans`. What *this* machine can run, `hgisam doctor` says.

| chapter | took | needs |
| --- | --- | --- |
{rows}
| all of them | {whole} | |

A chapter that finds a finished step does not make it again, and its time is then that of reading. Networks that a
recorded run holds are taken from it where they would be the same, and their chapter says so; `make book TAKE_FROM=`
trains them all. What a reader can't repeat, such as a run on a larger machine, is recorded: {{doc}}`15_ledger` holds
recorded runs against the claims, and {{doc}}`08_performance`, {{doc}}`09_training_at_scale` and
{{doc}}`16_your_own_scans` show what was measured where.
"""
AGAIN = "Take it from the repository again, or run it."
GITHUB = re.compile(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$")


def read_chapter(path: Path) -> NotebookNode:
    """A notebook.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        chapter = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(chapter, version=4)
        return chapter
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"notebook {path}", f"unreadable ({said})", "a Jupyter notebook", AGAIN) from None


def repository() -> str:
    """ "owner/name" on GitHub, from GitHub's own environment or the remote of the checkout; "" where there is none."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return name
    git = ["git", "-C", str(Path(__file__).parent), "remote", "get-url", "origin"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git here
        return ""
    found = GITHUB.search(said)
    return found[1] if found else ""


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def machine_of(chapter: NotebookNode) -> str:
    """The machine that the manifest at the foot of an executed chapter names."""
    for cell in reversed(chapter.cells):
        for output in cell.get("outputs", []):
            if found := MACHINE.search("".join(output.get("data", {}).get("text/html", ""))):
                return html.unescape(found[1])
    return "a machine that is not named"


def profile_of(chapter: NotebookNode) -> str:
    """The profile that a chapter was executed with."""
    return Path(str(chapter.metadata.get("papermill", {}).get("parameters", {}).get("profile", "laptop"))).stem


def taken_of(chapter: NotebookNode) -> str:
    """How many networks an executed chapter says that it took from a recorded run, "5 of 6 networks"; "" for none."""
    outputs = (output for cell in chapter.cells for output in cell.get("outputs", []))
    said = "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    taken, count = np.array([(0, 0), *TAKEN.findall(said)], dtype=int).sum(axis=0)
    return f"{taken} of {count} networks" if taken else ""


def took(chapter: NotebookNode) -> float:
    """Seconds that its cells took."""
    return float(chapter.metadata.get("papermill", {}).get("duration") or 0.0)


def parameters_of(chapter: NotebookNode) -> dict[str, tuple[str, str]]:
    """Name of each parameter → its default as Python writes it, and the comment beside it."""
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


def with_facts(chapter: NotebookNode, name: str) -> NotebookNode:
    """The executed chapter with its measured time in the table at its head, and how to run it before its manifest.

    Args:
        chapter: Executed; it is changed.
        name: Of the notebook, without its ending.
    """
    head = chapter.cells[0]
    place = f"{duration(took(chapter))} with the profile `{profile_of(chapter)}`, on {machine_of(chapter)}"
    if taken := taken_of(chapter):
        place += f"; {taken} were taken from a recorded run, not trained"
    lines = head.source.rstrip().splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("|"))
    head.source = "\n".join([*lines[: last + 1], f"| **Took here** | {place} |", *lines[last + 1 :]])
    text = RUN_THIS.format(name=name, command=_command(chapter, name), table=_table(chapter))
    at = next((i for i, cell in enumerate(chapter.cells) if cell.get("id") == "manifest"), len(chapter.cells))
    chapter.cells.insert(at, nbformat.v4.new_markdown_cell(text, id="run-this"))
    return chapter


def _command(chapter: NotebookNode, name: str) -> str:
    """The line that runs a chapter, with its parameters as they are by default; empty ones are left out."""
    given = [
        f"-p {key} {ast.literal_eval(value)}" for key, (value, _) in parameters_of(chapter).items() if value != "''"
    ]
    return " \\\n  ".join([f"papermill book/{name}.ipynb out.ipynb", *given])


def _table(chapter: NotebookNode) -> str:
    rows = (f"| `{key}` | `{value}` | {comment} |" for key, (value, comment) in parameters_of(chapter).items())
    return "\n".join(rows)


def run_page(chapters: Mapping[str, NotebookNode], needs: Mapping[str, tuple[str, ...]]) -> str:
    """The page about the run itself: what each chapter took, where, and what it needed.

    Args:
        chapters: Name → executed notebook, in reading order.
        needs: Name → the chapters that it needs.
    """
    rows = []
    for name, chapter in chapters.items():
        earlier = ", ".join(f"{{doc}}`{need}`" for need in needs.get(name, ())) or "–"
        without = f"; {taken} taken, not trained" if (taken := taken_of(chapter)) else ""
        rows.append(f"| {{doc}}`{name}` | {duration(took(chapter))}{without} | {earlier} |")
    return RUN_PAGE.format(
        profiles=", ".join(f"`{name}`" for name in dict.fromkeys(map(profile_of, chapters.values()))),
        machines="; ".join(dict.fromkeys(map(machine_of, chapters.values()))),
        rows="\n".join(rows),
        whole=duration(sum(map(took, chapters.values()))),
    )

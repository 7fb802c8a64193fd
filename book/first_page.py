"""The first page: `index.md` with a figure of chapter 6 and the results of the run that made the book."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from hgisam.errors import InputError
from hgisam_book.headline import fill, results

FIGURE = re.compile(r"^<!-- figure: (?P<chapter>\w+) (?P<cell>[\w-]+) -->\n", re.MULTILINE)


def first_page(page: Path, chapters: Mapping[str, NotebookNode], summary: Mapping[str, Any]) -> NotebookNode:
    """The first page as a notebook, so that its figure is one like those of the chapters.

    Args:
        page: `index.md`, with one line `<!-- figure: CHAPTER CELL -->` and one block of numbers, "results".
        chapters: Name → executed notebook.
        summary: `summary.json` of the run.

    Raises:
        InputError: If the page has no such line, or no notebook the cell.
    """
    text = fill(page.read_text(encoding="utf-8"), {"results": results(summary)}, page=page.name)
    found = FIGURE.search(text)
    if found is None:
        raise InputError(f"page {page.name}", "no figure", "a line <!-- figure: CHAPTER CELL -->", "Restore it.")
    cells = chapters[found["chapter"]].cells if found["chapter"] in chapters else []
    shown = next((cell for cell in cells if cell.get("id") == found["cell"]), None)
    if shown is None:
        where = f"{found['chapter']} {found['cell']}"
        raise InputError(f"page {page.name}", f"no cell {where}", "a cell with a figure", "Correct the line.")
    figure = nbformat.v4.new_code_cell(
        shown.source, id="first-figure", outputs=shown.outputs, metadata={"tags": ["remove-input"]}
    )
    before = nbformat.v4.new_markdown_cell(text[: found.start()].strip(), id="before")
    after = nbformat.v4.new_markdown_cell(text[found.end() :].strip(), id="after")
    kernel = {"kernelspec": chapters[found["chapter"]].metadata["kernelspec"]}
    return nbformat.v4.new_notebook(cells=[before, figure, after], metadata=kernel)

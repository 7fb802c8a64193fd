"""Numbers in exercise notebooks agree with the book, and labels are unique among pages."""

from pathlib import Path

import nbformat

import numbering
import render

BOOK = Path(render.__file__).parent
CHAPTERS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(BOOK.glob("[0-9]*.ipynb"))}
TEXT = """Before {eq}`eq-b`.

$$a = b$$ (eq-a)

:::{prf:definition} Sum
:label: def-sum

It is

$$c = d$$ (eq-b)
:::

See {numref}`fig-05-x`, {prf:ref}`def-sum` and {eq}`eq-unknown`."""


def chapter() -> nbformat.NotebookNode:
    figure = {"mystnb": {"figure": {"name": "fig-05-x", "caption": "Seen."}}}
    cells = [nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell("plot()", metadata=figure)]
    return nbformat.v4.new_notebook(cells=cells)


def test_numbers_count_per_chapter_and_kind() -> None:
    numbers = numbering.numbers_of({"05_x": chapter()})
    assert numbers == {"eq-a": "5.1", "def-sum": "5.1", "eq-b": "5.2", "fig-05-x": "5.1"}


def test_jupyter_gets_numbers_and_no_directive() -> None:
    shown = numbering.numbered(TEXT, numbering.numbers_of({"05_x": chapter()}))
    assert "Before equation 5.2." in shown
    assert r"$$a = b \\tag{5.1}$$".replace("\\\\", "\\") in shown
    assert "**Definition 5.1 (Sum).** It is" in shown
    assert "See Figure 5.1, Definition 5.1 and equation eq-unknown." in shown
    assert ":::" not in shown
    assert "{" not in shown.replace("{5.", "")


def test_every_reference_of_the_book_has_a_number() -> None:
    numbers = numbering.numbers_of(CHAPTERS)
    for name, book in CHAPTERS.items():
        for cell in book.cells:
            for reference in numbering.REFERENCE.finditer(cell.source if cell.cell_type == "markdown" else ""):
                assert reference["label"] in numbers, (name, reference[0])

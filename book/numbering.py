"""Numbers of definitions, equations and figures as in Sphinx, for text that Sphinx does not render.

In a chapter, an equation ends with `(eq-name)`, a definition is a directive with a label, and a figure has its label
and caption in the cell metadata, as in MyST-NB.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

DEFINITION = re.compile(
    r"^:::\{prf:definition\} (?P<title>.+)\n:label: (?P<label>\S+)\n\n(?P<text>.*?)\n:::$", re.M | re.S
)
EQUATION = re.compile(r"\$\$ \((?P<label>eq-[\w-]+)\)")
LABEL = re.compile(rf"{EQUATION.pattern}|^:label: (?P<definition>def-\S+)", re.M)
REFERENCE = re.compile(r"\{(?P<role>numref|eq|prf:ref)\}`(?P<label>[\w-]+)`")
KINDS = {"numref": "Figure", "eq": "equation", "prf:ref": "Definition"}


def figure_of(cell: NotebookNode) -> Mapping[str, Any]:
    """Label (`name`) and `caption` of the figure of a cell; empty if there is none."""
    figure: Mapping[str, Any] = cell.metadata.get("mystnb", {}).get("figure", {})
    return figure


def numbers_of(chapters: Mapping[str, NotebookNode]) -> dict[str, str]:
    """Numbers of all labels, e.g. "5.2" for the second equation of chapter 5.

    Args:
        chapters: File name, which starts with the chapter number → notebook.
    """
    numbers: dict[str, str] = {}
    for name, chapter in chapters.items():
        count: Counter[str] = Counter()
        for cell in chapter.cells:
            labels = [match["label"] or match["definition"] for match in LABEL.finditer(cell.source)]
            for label in labels if cell.cell_type == "markdown" else filter(None, [figure_of(cell).get("name")]):
                kind = label.split("-")[0]
                count[kind] += 1
                numbers[label] = f"{int(name.split('_')[0])}.{count[kind]}"
    return numbers


def numbered(text: str, numbers: Mapping[str, str]) -> str:
    """Text with numbers in place of labels and references, for Jupyter.

    Args:
        text: MyST Markdown.
        numbers: Label → number; an unknown label is kept.
    """

    def number(match: re.Match[str]) -> str:
        return numbers.get(match["label"], match["label"])

    text = DEFINITION.sub(lambda m: f"**Definition {number(m)} ({m['title']}).** {m['text']}", text)
    text = EQUATION.sub(lambda m: rf" \tag{{{number(m)}}}$$", text)
    return REFERENCE.sub(lambda m: f"{KINDS[m['role']]} {number(m)}", text)

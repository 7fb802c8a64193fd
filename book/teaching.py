"""What students and teachers get, made from the chapters themselves: exercises without solutions, the key, slides.

The solution is the truth: a chapter runs it, and what a student gets is the same notebook with the solution taken out.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import nbformat
from nbformat import NotebookNode

from numbering import figure_of, numbered, unlabelled

BEGINS, ENDS = "# solution begins", "# solution ends"
YOUR_TURN = 'raise NotImplementedError("your turn")'
KINDS = ("predict", "code", "judge")
EXERCISE = re.compile(r"^:::\{exercise\} (?P<title>.+)\n:label: (?P<label>\S+)\n\n(?P<text>.*?)\n:::$", re.M | re.S)
SOLUTION = re.compile(r"^:::\{solution\} (?P<label>\S+)\n(?::.*\n)*\n(?P<text>.*?)\n:::$", re.M | re.S)
QUESTION = re.compile(r"^\*\*\d+\.\*\* (?P<text>.+?)(?=^\*\*\d+\.\*\* |\Z)", re.M | re.S)
ANSWER = re.compile(
    r"<details><summary>(?P<text>.+?)</summary>\n\n\*\*(?P<word>Right|No)\.\*\* (?P<why>.+?)\n\n</details>", re.S
)
ROLES = (
    (re.compile(r"\{doc\}`(\w+)`"), r"[\1](\1.ipynb)"),
    (re.compile(r"\{(?:cite|term)\}`([^`<]+?)(?: <[^`]*>)?`"), r"\1"),
)
COURSES: Mapping[str, tuple[str, tuple[str, ...]]] = {  # deck → title and chapters
    "slides_90_minutes": ("Slides: ninety minutes", ("01", "03", "05", "06")),
    "slides_day_1": ("Slides, day 1: studies and slices", ("01", "02", "18")),
    "slides_day_2": ("Slides, day 2: attention and training", ("03", "04", "09")),
    "slides_day_3": ("Slides, day 3: from heads to masks", ("05", "06", "07")),
    "slides_day_4": ("Slides, day 4: the studies", ("10", "11", "12", "13")),
    "slides_day_5": ("Slides, day 5: claims and your own scans", ("14", "15", "16", "17")),
}
DECK = '<div class="slide-deck"></div>'  # by which the style knows a page of slides
NEXT = "\nNext: "  # begins the last line of a chapter
FIGURES_A_DECK = 14  # a page with more of them loads slowly


def is_solution(cell: NotebookNode) -> bool:
    """Whether a cell belongs to the teacher."""
    return cell.cell_type == "code" and "solution" in cell.metadata.get("tags", [])


def opened(source: str) -> str:
    """A solution's code with what the student writes taken out.

    Raises:
        ValueError: If the marks are not there, one after the other.
    """
    lines = source.splitlines()
    marks = [number for number, line in enumerate(lines) if line.strip() in (BEGINS, ENDS)]
    if [lines[number].strip() for number in marks] != [BEGINS, ENDS]:
        raise ValueError(f"a solution without {BEGINS!r} and {ENDS!r}")
    first, last = marks
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    return "\n".join([*lines[:first], indent + YOUR_TURN, *lines[last + 1 :]])


def for_students(chapter: NotebookNode, numbers: Mapping[str, str]) -> NotebookNode:
    """The chapter as a student gets it: no outputs, no solutions, plain text where Jupyter knows no directive.

    Args:
        chapter: Executed or not.
        numbers: Of its figures, equations and definitions, and of those that it refers to; see `numbers_of`.
    """
    cells = []
    for cell in chapter.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            text = EXERCISE.sub(r"### \g<title>\n\n\g<text>", SOLUTION.sub("", cell.source)).rstrip()
            for role, plain in ROLES:
                text = role.sub(plain, text)
            cells.append(nbformat.v4.new_markdown_cell(numbered(text, numbers), id=cell.id))
        elif BEGINS in cell.source:
            cells.append(nbformat.v4.new_code_cell(opened(cell.source), id=cell.id))
        elif not is_solution(cell) and "injected-parameters" not in tags:
            kept = {"tags": ["parameters"]} if "parameters" in tags else {}
            cells.append(nbformat.v4.new_code_cell(cell.source, id=cell.id, metadata=kept))
            if figure := figure_of(cell):
                caption = f"*Figure {numbers.get(figure['name'], figure['name'])}: {figure['caption']}*"
                cells.append(nbformat.v4.new_markdown_cell(caption, id=f"{cell.id}-caption"))
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": chapter.metadata["kernelspec"]})


def exercises_of(chapter: NotebookNode) -> dict[str, tuple[str, str]]:
    """Label of each exercise → its title and its solution, as text or code; "" where there is none."""
    found: dict[str, tuple[str, str]] = {}
    for number, cell in enumerate(chapter.cells):
        if cell.cell_type != "markdown":
            continue
        told = {match["label"]: match["text"] for match in SOLUTION.finditer(cell.source)}
        for match in EXERCISE.finditer(cell.source):
            following = chapter.cells[number + 1 :]
            until = next((i for i, c in enumerate(following) if c.cell_type == "markdown"), len(following))
            code = [c.source for c in following[:until] if is_solution(c)]
            fenced = f"```python\n{code[-1]}\n```" if code else ""
            found[match["label"]] = match["title"], told.get(match["label"], fenced)
    return found


def questions_of(chapter: NotebookNode) -> list[tuple[str, list[tuple[str, bool, str]]]]:
    """The quiz: each question with its answers, whether they are right, and why."""
    source = "\n".join(c.source for c in chapter.cells if c.get("id") == "quiz")
    return [
        (
            match["text"].split("\n", 1)[0].strip(),
            [(a["text"], a["word"] == "Right", " ".join(a["why"].split())) for a in ANSWER.finditer(match["text"])],
        )
        for match in QUESTION.finditer(source)
    ]


def title_of(chapter: NotebookNode) -> str:
    """The heading of the first cell."""
    return str(chapter.cells[0].source.splitlines()[0].removeprefix("# "))


def key(chapters: Mapping[str, NotebookNode]) -> str:
    """The page with all solutions and the right answers, for teachers."""
    parts = [
        "# The key",
        "",
        "Every solution and every right answer, taken from the chapters. What a picture answers, its chapter shows.",
    ]
    for name, chapter in chapters.items():
        parts += ["", f"## {{doc}}`{name}`"]
        for label, (title, solution) in exercises_of(chapter).items():
            shown = "Shown in the chapter." if label.endswith("judge") else solution
            parts += ["", f"{{ref}}`{title} <{label}>`", "", shown]
        for number, (question, answers) in enumerate(questions_of(chapter), start=1):
            right = next(answer for answer in answers if answer[1])
            parts += ["", f"**Quiz {number}.** {question} *{right[0]}* {right[2]}"]
    return "\n".join(parts) + "\n"


def _figure(cell: NotebookNode) -> bool:
    return any("figure-plotly" in "".join(data.get("text/html", "")) for data in _shown(cell))


def _result(cell: NotebookNode) -> bool:
    """Whether the cell shows a table, or words that were computed."""
    return any(kind in data for data in _shown(cell) for kind in ("text/html", "text/markdown"))


def _shown(cell: NotebookNode) -> list[dict[str, Any]]:
    return [output.get("data", {}) for output in cell.get("outputs", [])]


def _first_paragraph(text: str) -> str:
    """The first paragraph of a section; with the formula or list that it announces by a colon."""
    paragraphs = [part for part in text.split("\n\n") if part.strip() and not part.startswith((":::", "|", "```"))]
    announces = bool(paragraphs) and paragraphs[0].rstrip().endswith(":")
    return "\n\n".join(paragraphs[: 2 if announces else 1])


def _sections(text: str) -> Iterator[str]:
    """Each section that begins in a text, as a slide holds it: summaries whole, of the others the first paragraph."""
    for section in re.split(r"(?=^## )", unlabelled(text), flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        whole = heading in ("## Summary", "## What could be wrong with this")
        yield f"{heading}\n\n{body.split(NEXT)[0].strip() if whole else _first_paragraph(body)}"


def _slides_of(chapter: NotebookNode, figures: int) -> Iterator[NotebookNode]:
    """The chapter's aim, its sections with the first figure of each or else its result, and a question of its quiz.

    Args:
        chapter: Executed.
        figures: The most that there may be.
    """
    aim = re.search(r"\*\*You will be able to\*\* \| (.+?) \|", chapter.cells[0].source)
    yield nbformat.v4.new_markdown_cell(f"## {title_of(chapter)}\n\nYou will be able to {aim[1] if aim else ''}.")
    lesson = itertools.takewhile(lambda cell: cell.get("id") != "exercises", chapter.cells[1:])
    sections: list[tuple[str, list[NotebookNode]]] = []
    for cell in lesson:
        if cell.cell_type == "markdown":
            sections += [(section, []) for section in _sections(cell.source)]
        elif sections:
            sections[-1][1].append(cell)
    for section, cells in sections:
        yield nbformat.v4.new_markdown_cell(section)
        figure = next(filter(_figure, cells), None) if figures > 0 else None
        figures -= figure is not None
        if shown := figure or next((cell for cell in cells if _result(cell) and not _figure(cell)), None):
            yield nbformat.v4.new_code_cell(shown.source, outputs=shown.outputs, metadata={"tags": ["remove-input"]})
    for question, answers in questions_of(chapter)[:1]:
        options = "\n".join(f"- {text}" for text, _, _ in answers)
        yield nbformat.v4.new_markdown_cell(f"## A question\n\n{question}\n\n{options}")


def slides(title: str, chapters: Iterable[NotebookNode]) -> NotebookNode:
    """A deck: of each chapter its aim, a slide a section with its first paragraph and figure or result, a question.

    Args:
        title: Of the deck.
        chapters: Executed notebooks, in order.
    """
    opening = f"# {title}\n\n{DECK}\n\nPage Down for the next slide; print the page for a handout."
    cells = [nbformat.v4.new_markdown_cell(opening)]
    for chapter in chapters:
        cells += _slides_of(chapter, FIGURES_A_DECK - sum(map(_figure, cells)))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})

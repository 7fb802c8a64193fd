"""Teaching material generated from the chapters: exercise notebooks and the answer key.

The solution is the single source: the chapter runs it, and the exercise notebook is the same notebook without
solutions.
"""

import re
from collections.abc import Mapping

import nbformat
from nbformat import NotebookNode

from numbering import figure_of, numbered

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


def is_solution(cell: NotebookNode) -> bool:
    """True if a cell is a solution."""
    return cell.cell_type == "code" and "solution" in cell.metadata.get("tags", [])


def without_solution(source: str) -> str:
    """Code of a solution with a placeholder in place of the lines that the student has to write.

    Raises:
        ValueError: If the markers of begin and end are missing or in the wrong order.
    """
    lines = source.splitlines()
    marks = [number for number, line in enumerate(lines) if line.strip() in (BEGINS, ENDS)]
    if [lines[number].strip() for number in marks] != [BEGINS, ENDS]:
        raise ValueError(f"a solution without {BEGINS!r} and {ENDS!r}")
    first, last = marks
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    return "\n".join([*lines[:first], indent + YOUR_TURN, *lines[last + 1 :]])


def exercise_notebook(chapter: NotebookNode, numbers: Mapping[str, str]) -> NotebookNode:
    """Exercise notebook of a chapter: no outputs, no solutions, plain text in place of MyST directives.

    Args:
        chapter: Notebook, executed or not.
        numbers: Numbers of its figures, equations and definitions, and of those that it refers to; see `numbers_of`.
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
            cells.append(nbformat.v4.new_code_cell(without_solution(cell.source), id=cell.id))
        elif not is_solution(cell) and "injected-parameters" not in tags:
            kept = {"tags": ["parameters"]} if "parameters" in tags else {}
            cells.append(nbformat.v4.new_code_cell(cell.source, id=cell.id, metadata=kept))
            if figure := figure_of(cell):
                caption = f"*Figure {numbers.get(figure['name'], figure['name'])}: {figure['caption']}*"
                cells.append(nbformat.v4.new_markdown_cell(caption, id=f"{cell.id}-caption"))
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": chapter.metadata["kernelspec"]})


def exercises_of(chapter: NotebookNode) -> dict[str, tuple[str, str]]:
    """Exercises of a chapter: label → title and solution, as text or code; "" if there is none."""
    found: dict[str, tuple[str, str]] = {}
    for number, cell in enumerate(chapter.cells):
        if cell.cell_type != "markdown":
            continue
        solutions = {match["label"]: match["text"] for match in SOLUTION.finditer(cell.source)}
        for match in EXERCISE.finditer(cell.source):
            following = chapter.cells[number + 1 :]
            until = next((i for i, c in enumerate(following) if c.cell_type == "markdown"), len(following))
            code = [c.source for c in following[:until] if is_solution(c)]
            fenced = f"```python\n{code[-1]}\n```" if code else ""
            found[match["label"]] = match["title"], solutions.get(match["label"], fenced)
    return found


def questions_of(chapter: NotebookNode) -> list[tuple[str, list[tuple[str, bool, str]]]]:
    """Quiz of a chapter: each question with its answers as (text, correct, explanation)."""
    source = "\n".join(c.source for c in chapter.cells if c.get("id") == "quiz")
    return [
        (
            match["text"].split("\n", 1)[0].strip(),
            [(a["text"], a["word"] == "Right", " ".join(a["why"].split())) for a in ANSWER.finditer(match["text"])],
        )
        for match in QUESTION.finditer(source)
    ]


def title_of(chapter: NotebookNode) -> str:
    """Title of a chapter: the heading of its first cell."""
    return str(chapter.cells[0].source.splitlines()[0].removeprefix("# "))


def answer_key(chapters: Mapping[str, NotebookNode]) -> str:
    """Page for teachers with all solutions and correct answers, as MyST Markdown."""
    parts = [
        "# Answer key",
        "",
        "All solutions and correct answers of the chapters. A solution that is a figure is shown in its chapter.",
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

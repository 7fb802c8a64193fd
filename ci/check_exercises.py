"""Gate: every chapter has its exercises and its quiz, and what a student gets holds no solution.

python ci/check_exercises.py
"""

import sys
from pathlib import Path

import nbformat

from hgisam.errors import InputError

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK))

from facts import read_chapter  # noqa: E402
from teaching import BEGINS, ENDS, KINDS, exercises_of, for_students, is_solution, opened, questions_of  # noqa: E402


def problems(path: Path) -> list[str]:
    """What is wrong with a chapter's exercises, one line each."""
    try:
        chapter = read_chapter(path)
    except InputError as error:
        return [str(error)]
    number = path.stem.split("_")[0]
    found, exercises = [], exercises_of(chapter)
    expected = [f"ex-{number}-{kind}" for kind in KINDS]
    if list(exercises) != expected:
        found.append(f"exercises {', '.join(exercises) or 'none'}, expected {', '.join(expected)}")
    found += [f"{label} has no solution" for label, (_, solution) in exercises.items() if not solution.strip()]
    code = _code(chapter, number)
    return [*found, *code, *_quiz(chapter), *([] if code else _student(chapter))]


def _code(chapter: nbformat.NotebookNode, number: str) -> list[str]:
    cells = [cell.source for cell in chapter.cells if is_solution(cell) and BEGINS in cell.source]
    if len(cells) != 1:
        return [f"{len(cells)} code solutions with marks, expected one"]
    try:
        left = opened(cells[0])
        compile(left, "<exercise>", "exec")
    except (ValueError, SyntaxError) as error:
        return [f"ex-{number}-code can't be opened: {error}"]
    return [] if "assert " in left else [f"ex-{number}-code has no assertion that says when it is solved"]


def _quiz(chapter: nbformat.NotebookNode) -> list[str]:
    questions = questions_of(chapter)
    if len(questions) < 2:
        return [f"a quiz of {len(questions)} questions, expected two or more"]
    return [
        f"quiz {number}: {sum(right for _, right, _ in answers)} of {len(answers)} answers are right, expected one"
        for number, (_, answers) in enumerate(questions, start=1)
        if len(answers) < 2 or sum(right for _, right, _ in answers) != 1
    ]


def _student(chapter: nbformat.NotebookNode) -> list[str]:
    """Looks for lines of solutions in what a student gets."""
    given = "\n".join(cell.source for cell in for_students(chapter, {}).cells)
    told = [solution for label, (_, solution) in exercises_of(chapter).items() if label.endswith("predict")]
    for cell in chapter.cells:
        if is_solution(cell) and BEGINS in cell.source and ENDS in cell.source:
            told.append(cell.source.split(BEGINS)[1].split(ENDS)[0])
    lines = {line.strip() for text in told for line in text.splitlines() if len(line.strip()) > 24}
    whole = {cell.source for cell in chapter.cells if is_solution(cell)}
    return [f"the student's notebook holds {line[:60]!r}" for line in sorted(lines | whole) if line in given]


def main(arguments: list[str]) -> int:
    """Checks the notebooks given, or all of book/."""
    paths = [Path(argument) for argument in arguments] or sorted(BOOK.glob("[0-9]*.ipynb"))
    found = [f"{path}: {problem}" for path in paths for problem in problems(path)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_exercises: {f'{len(found)} problems' if found else 'ok'}, {len(paths)} notebooks")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

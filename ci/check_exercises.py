"""Gate: every chapter has its exercises and its quiz, and exercise notebooks contain no solution.

python ci/check_exercises.py
"""

import sys
from pathlib import Path

import nbformat

from hgisam.errors import InputError

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK))

from facts import read_chapter  # noqa: E402
from teaching import (  # noqa: E402
    BEGINS,
    ENDS,
    KINDS,
    exercise_notebook,
    exercises_of,
    is_solution,
    questions_of,
    without_solution,
)


def problems(path: Path) -> list[str]:
    """Problems with the exercises of a chapter, one line each."""
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
        return [f"{len(cells)} code solutions with markers, expected one"]
    try:
        exercise = without_solution(cells[0])
        compile(exercise, "<exercise>", "exec")
    except (ValueError, SyntaxError) as error:
        return [f"ex-{number}-code has no valid exercise: {error}"]
    return [] if "assert " in exercise else [f"ex-{number}-code has no assertion that tests the answer"]


def _quiz(chapter: nbformat.NotebookNode) -> list[str]:
    questions = questions_of(chapter)
    if len(questions) < 2:
        return [f"a quiz of {len(questions)} questions, expected two or more"]
    return [
        f"quiz {number}: {sum(correct for _, correct, _ in answers)} of {len(answers)} answers correct, expected one"
        for number, (_, answers) in enumerate(questions, start=1)
        if len(answers) < 2 or sum(correct for _, correct, _ in answers) != 1
    ]


def _student(chapter: nbformat.NotebookNode) -> list[str]:
    """Lines of solutions that are left in the exercise notebook."""
    exercise = "\n".join(cell.source for cell in exercise_notebook(chapter, {}).cells)
    solutions = [solution for label, (_, solution) in exercises_of(chapter).items() if label.endswith("predict")]
    for cell in chapter.cells:
        if is_solution(cell) and BEGINS in cell.source and ENDS in cell.source:
            solutions.append(cell.source.split(BEGINS)[1].split(ENDS)[0])
    lines = {line.strip() for text in solutions for line in text.splitlines() if len(line.strip()) > 24}
    whole = {cell.source for cell in chapter.cells if is_solution(cell)}
    return [f"the exercise notebook contains {line[:60]!r}" for line in sorted(lines | whole) if line in exercise]


def main(arguments: list[str]) -> int:
    """Check the given notebooks, or all of book/."""
    paths = [Path(argument) for argument in arguments] or sorted(BOOK.glob("[0-9]*.ipynb"))
    found = [f"{path}: {problem}" for path in paths for problem in problems(path)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_exercises: {f'{len(found)} problems' if found else 'ok'}, {len(paths)} notebooks")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

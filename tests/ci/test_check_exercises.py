from pathlib import Path

import check_exercises
import nbformat
import pytest

import teaching

CHAPTER = Path(__file__).parents[2] / "book" / "05_hgi_sam.ipynb"


def problems_after(tmp_path: Path, cell_id: str, old: str, new: str) -> str:
    """Problems that the gate reports after a replacement in one cell of a chapter."""
    chapter = nbformat.read(CHAPTER, as_version=4)
    cell = next(cell for cell in chapter.cells if cell.id == cell_id)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    path = tmp_path / CHAPTER.name
    nbformat.write(chapter, path)
    return " | ".join(check_exercises.problems(path))


def test_the_chapters_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_exercises.main([]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell_id", "old", "new", "expected"),
    [
        ("exercises", ":label: ex-05-predict", ":label: ex-05-guess", "expected ex-05-predict"),
        ("exercises", ":::{solution} ex-05-predict", ":::{solution} ex-05-other", "ex-05-predict has no solution"),
        ("solution-code", "# solution ends", "# the end", "no valid exercise: a solution without"),
        ("solution-code", "assert ", "check = ", "no assertion"),
        ("quiz", "**Right.**", "**No.**", "0 of 3 answers correct"),
        ("quiz", "**2.**", "2.", "a quiz of 1 questions"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(tmp_path: Path, cell_id: str, old: str, new: str, expected: str) -> None:
    assert expected in problems_after(tmp_path, cell_id, old, new)


def test_a_solution_in_the_exercise_text_is_found(tmp_path: Path) -> None:
    solution = teaching.exercises_of(nbformat.read(CHAPTER, as_version=4))["ex-05-predict"][1].splitlines()[0]
    assert "exercise notebook contains" in problems_after(
        tmp_path, "exercises", "Set every head weight", solution + "\n"
    )


def test_the_exercise_notebook_has_the_exercise_without_its_solution() -> None:
    chapter = nbformat.read(CHAPTER, as_version=4)
    student = teaching.exercise_notebook(chapter, {})
    source = "\n".join(cell.source for cell in student.cells)
    assert teaching.YOUR_TURN in source
    assert "def frobenius(gradient):" in source
    assert "pow(2)" not in source
    assert "### Code: The weight of a head" in source
    assert "{exercise}" not in source
    assert "[03_swin_attention](03_swin_attention.ipynb)" in source
    namespace: dict[str, object] = {}
    exec(
        teaching.without_solution(next(c.source for c in chapter.cells if c.id == "solution-code")).split("\n\n\n")[0],
        namespace,
    )
    with pytest.raises(NotImplementedError, match="your turn"):
        namespace["frobenius"](None)  # type: ignore[operator]


def test_the_answer_key_has_all_solutions_and_correct_answers() -> None:
    chapter = nbformat.read(CHAPTER, as_version=4)
    key = teaching.answer_key({"05_hgi_sam": chapter})
    assert "gradient.float().pow(2)" in key
    assert "Swin-SAM on the same stages" in key
    for _, answers in teaching.questions_of(chapter):
        right = next(text for text, correct, _ in answers if correct)
        assert right in key

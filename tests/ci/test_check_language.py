"""The gate on words: it finds what it is for, in text, code and notebooks, and leaves the field's words alone."""

import json
from pathlib import Path

import check_language
import pytest


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("Nothing was drawn here.", "drawn"),
        ('raise ValueError("Mend the file.")', "Mend"),
        ("# one of the rivals", "rivals"),
        ("A row a slice.", "A row a slice"),
        ("12 ms a slice", "ms a slice"),
        ("slices that nobody said anything of", "nobody said"),
    ],
)
def test_a_banned_phrase_is_found_with_what_to_say(tmp_path: Path, line: str, phrase: str) -> None:
    (tmp_path / "a.py").write_text(f"x = 1\n{line}\n")
    (problem,) = check_language.problems(tmp_path / "a.py")
    assert problem.startswith(f"2: “{phrase}”; say: ")
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"source": ["fine\n", line]}]}))
    (problem,) = check_language.problems(tmp_path / "n.ipynb")
    assert problem.startswith(f"cell 0: “{phrase}”")


def test_the_fields_words_are_left_alone(tmp_path: Path) -> None:
    text = (
        "One row per slice; withdrawn consent, an amended protocol and outlined-text are other words. Elsewheres too."
    )
    (tmp_path / "a.md").write_text(text)
    assert list(check_language.problems(tmp_path / "a.md")) == []

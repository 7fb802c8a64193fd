import json
from pathlib import Path
from typing import Any

import check_notebooks
import pytest


def labelled(name: str, caption: str) -> dict[str, Any]:
    return {"mystnb": {"figure": {"name": name, "caption": caption}}}


def notebook() -> dict[str, Any]:
    parameters = 'profile: str = "laptop"  # name of a profile\nruns_dir: str = "runs"  # where runs live\n'
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# A title\n", "prose of a {term}`scan`, a link to https://x.org/home/y"]},
            {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": parameters, "outputs": [],
             "execution_count": None},
            {"cell_type": "code", "metadata": {}, "source": "check_parameters(globals())", "outputs": [],
             "execution_count": None},
            {"cell_type": "code", "metadata": labelled("fig-01-x", "A caption."), "source": "plot()", "outputs": [],
             "execution_count": None},
        ],
    }  # fmt: skip


def found(tmp_path: Path, book: Any) -> str:
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps(book))
    return " | ".join(check_notebooks.problems(path))


def test_a_source_passes(tmp_path: Path) -> None:
    assert found(tmp_path, notebook()) == ""


@pytest.mark.parametrize(
    ("cell", "key", "value", "expected"),
    [
        (2, "outputs", [{"output_type": "stream", "name": "stdout", "text": "2"}], "has outputs"),
        (2, "execution_count", 3, "was executed"),
        (2, "source", "open('/home/me/scan.nii')", "absolute path"),
        (2, "source", "open(r'C:\\\\scans')", "absolute path"),
        (0, "source", "no title", "title"),
        (0, "source", "# A title\nand no term", "glossary"),
        (3, "metadata", labelled("fig-02-x", "A caption."), "does not start with fig-01-"),
        (3, "metadata", labelled("fig-01-x", "Seen"), "not a sentence"),
        (2, "metadata", labelled("fig-01-x", "The same label."), "not unique"),
        (1, "metadata", {}, "0 cells are tagged"),
        (1, "source", 'profile = "laptop"  # name', "not `name: type = value`"),
        (1, "source", 'profile: str = "laptop"', "no comment"),
        (1, "source", "profile: str = ", "not Python"),
        (1, "source", "", "empty"),
        (3, "source", f"plot({'x' * 83})", "cell 3: 89 columns, more than 88"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, cell: int, key: str, value: Any, expected: str) -> None:
    book = notebook()
    book["cells"][cell][key] = value
    assert expected in found(tmp_path, book)


def test_hidden_code_and_code_of_88_columns_fit(tmp_path: Path) -> None:
    book = notebook()
    book["cells"][3]["source"] = f"plot({'x' * 82})"
    assert found(tmp_path, book) == ""
    book["cells"][3] |= {"source": "x" * 200, "metadata": book["cells"][3]["metadata"] | {"tags": ["hide-input"]}}
    assert found(tmp_path, book) == ""


def test_kernelspec_and_broken_files(tmp_path: Path) -> None:
    book = notebook()
    del book["metadata"]["kernelspec"]
    assert "kernelspec" in found(tmp_path, book)
    for broken in ([], {"cells": [1, 2]}, notebook() | {"metadata": 3}):
        assert "expected a Jupyter notebook" in found(tmp_path, broken)


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "01_x.ipynb"
    path.write_text(json.dumps(notebook()))
    assert check_notebooks.main([str(path)]) == 0
    path.write_text("{}")
    assert check_notebooks.main([str(path)]) == 1
    assert "check_notebooks: 1 problems" in capsys.readouterr().out

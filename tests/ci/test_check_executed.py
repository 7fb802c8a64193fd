import json
from pathlib import Path
from typing import Any

import check_executed
import pytest

from steps import STEPS


def executed() -> dict[str, Any]:
    stream = {"output_type": "stream", "name": "stdout", "text": "fine"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"papermill": {"exception": None, "parameters": {"rsna": "", "ct_ich": ""}}},
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Title"},
            {
                "cell_type": "code",
                "id": "one",
                "metadata": {},
                "source": "1",
                "execution_count": 1,
                "outputs": [stream],
            },
        ],
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name, step in STEPS.items():
        for path in (f"notebooks/{name}.ipynb", *step.makes):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(json.dumps(executed()))
    return tmp_path


def test_a_complete_run_passes(run: Path) -> None:
    assert check_executed.run_problems(run) == []
    assert check_executed.main([str(run)]) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"execution_count": None}, "not executed"),
        (
            {"outputs": [{"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}]},
            "ended with ValueError: no",
        ),
        (
            {"outputs": [{"output_type": "stream", "name": "stdout", "text": f"{Path.home()}/secret"}]},
            "path of this machine",
        ),
        (
            {
                "outputs": [
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {"text/html": '<script src="https://cdn/x.js">'},
                    }
                ]
            },
            "script from another host",
        ),
        (
            {
                "outputs": [
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {"text/html": '<div class="figure-plotly">'},
                    }
                ]
            },
            "without a label and a caption",
        ),
    ],
)
def test_bad_cells_are_found(run: Path, change: dict[str, Any], expected: str) -> None:
    book = executed()
    book["cells"][1] |= change
    (run / "notebooks/04_training.ipynb").write_text(json.dumps(book))
    assert expected in " | ".join(check_executed.run_problems(run))
    assert check_executed.main([str(run)]) == 1


def test_a_figure_with_a_caption_and_one_of_an_exercise_pass(run: Path) -> None:
    book = executed()
    shown = {
        "outputs": [
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": '<div class="figure-plotly">'}}
        ]
    }
    figure = {"mystnb": {"figure": {"name": "fig-04-x", "caption": "A caption."}}}
    book["cells"] += [book["cells"][1] | shown | {"metadata": data} for data in (figure, {"tags": ["hide-input"]})]
    (run / "notebooks/04_training.ipynb").write_text(json.dumps(book))
    assert check_executed.run_problems(run) == []


def test_papermill_exception_and_missing_files(run: Path) -> None:
    book = executed()
    book["metadata"]["papermill"]["exception"] = True
    (run / "notebooks/04_training.ipynb").write_text(json.dumps(book))
    (run / "notebooks/06_results.ipynb").unlink()
    (run / "maps/manifest.json").write_text("")
    found = " | ".join(check_executed.run_problems(run))
    assert "recorded an exception" in found
    assert "06_results.ipynb: missing" in found
    assert "maps/manifest.json: missing or empty" in found


def test_no_phantom_is_expected_with_real_studies(run: Path) -> None:
    (run / "phantom/rsna/phantom.json").unlink()
    assert len(check_executed.run_problems(run)) == 1
    book = executed()
    book["metadata"]["papermill"]["parameters"]["rsna"] = "…/rsna-2019"
    (run / "notebooks/01_problem_and_data.ipynb").write_text(json.dumps(book))
    assert check_executed.run_problems(run) == []

"""What GitHub runs exists here: commands, make targets, files."""

import re
from pathlib import Path

import pytest

from hgisam.config.overrides import read_yaml

ROOT = Path(__file__).parents[1]
PLACES = ("raw", "prepared", "maps", "results", "checkpoints", "weights")  # in commands of README and book
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_there_is(path: Path) -> None:
    workflow = read_yaml(path, path.name)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@v\d+", step["uses"])
            continue
        program, argument = step["run"].split()[:2]
        assert argument in targets if program == "make" else (ROOT / argument).is_file(), step["run"]


def test_there_are_workflows_and_the_image_copies_no_runs() -> None:
    assert {path.stem for path in WORKFLOWS} == {"book", "ci"}
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"runs", ".venv", "_build", *PLACES} <= set(left_out)  # a run may hold what a licence forbids to pass on


def test_what_the_pages_tell_a_reader_to_make_is_never_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/runs/", "ids.salt", "out.ipynb", "report.ipynb", *(f"/{place}/" for place in PLACES)} <= set(ignored)

"""The catalogue of data sets matches readers, commands and bibliography."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from data_prep.__main__ import app
from data_prep.datasets import load_datasets
from data_prep.study import READERS
from hgisam.errors import InputError

ROOT = Path(__file__).parents[2]


def test_each_reader_has_an_entry_and_each_entry_a_reader() -> None:
    assert {dataset.name for dataset in load_datasets()} == {"phantom", *READERS}


def test_each_command_exists_with_its_options() -> None:
    group: Any = typer.main.get_command(app)
    lines = [line for dataset in load_datasets() for line in (*dataset.get, *dataset.prepare)]
    ours = [line.split()[3:] for line in lines if line.startswith("python -m data_prep ")]
    assert len(ours) > len(READERS)
    for kind, *rest in ours:
        known = {option for parameter in group.commands[kind].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= known


def test_each_citation_is_in_the_bibliography() -> None:
    entries = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text()))
    assert {dataset.cite for dataset in load_datasets()} - {None} <= entries


@pytest.mark.parametrize("text", ["a: [", "- name: x", "name: x"])
def test_a_broken_catalogue_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "datasets.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match="list of data sets"):
        load_datasets(file)


def test_a_duplicate_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "datasets.yaml"
    shipped = (ROOT / "data_prep" / "datasets.yaml").read_text()
    file.write_text(shipped + shipped)
    with pytest.raises(InputError, match="twice"):
        load_datasets(file)

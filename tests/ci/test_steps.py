import json
from pathlib import Path

import build
import steps
from run_notebook import declared_parameters


def test_code_of_follows_imports(tmp_path: Path) -> None:
    files = {
        "hgisam/__init__.py": "",
        "hgisam/train.py": "from hgisam.data import load\nimport os",
        "hgisam/data.py": "def load():\n    from . import errors",
        "hgisam/errors.py": "",
        "hgisam/maps/__init__.py": "from .cam import cam",
        "hgisam/maps/cam.py": "from ..windows import window",
        "hgisam/windows.py": "",
        "hgisam/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def names(source: str) -> list[str]:
        (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}]}))
        return [path.relative_to(tmp_path).as_posix() for path in steps.code_of(tmp_path / "n.ipynb", tmp_path)]

    assert names("%matplotlib inline\nfrom hgisam import train") == [
        "hgisam/__init__.py", "hgisam/data.py", "hgisam/errors.py", "hgisam/train.py",
    ]  # fmt: skip
    assert names("import hgisam.maps") == [
        "hgisam/__init__.py", "hgisam/maps/__init__.py", "hgisam/maps/cam.py", "hgisam/windows.py",
    ]  # fmt: skip


def test_steps_need_only_what_ran_before() -> None:
    seen: set[str] = set()
    for name, step in steps.STEPS.items():
        assert set(step.needs) <= seen
        seen.add(name)


def test_a_notebook_whose_products_are_gone_runs_again(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    notebook = tmp_path / "notebooks" / "04_training.ipynb"
    notebook.write_text("{}")
    assert build.lost(tmp_path, rsna="", ct_ich="") == [str(notebook)]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "manifest.json").write_text("{}")
    assert build.lost(tmp_path, rsna="", ct_ich="") == []


def test_what_a_notebook_shows_is_a_folder_and_one_of_its_parameters() -> None:
    shown = [step for step in steps.STEPS.values() if step.shows]
    assert [step.notebook for step in shown] == ["08_performance"]
    for step in shown:
        assert (steps.BOOK / step.shows).is_dir()
        assert step.shows in declared_parameters(steps.BOOK / f"{step.notebook}.ipynb")

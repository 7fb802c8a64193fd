"""Whose change makes a step's result out of date."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hgisam.config.profile import Profile
from hgisam.runs import steps as run_module
from hgisam.runs.sources import ROOT, package_sources, sources_of
from hgisam.runs.steps import Run


def _names(code: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in sources_of(code)}


def test_imports_are_followed(tmp_path: Path) -> None:
    files = {
        "hgisam/__init__.py": "",
        "hgisam/train.py": "from hgisam.data import load\nimport os",
        "hgisam/data.py": "def load():\n    from . import errors",
        "hgisam/errors.py": "",
        "hgisam/maps/__init__.py": "from .cam import cam",
        "hgisam/maps/cam.py": "from ..windows import window",
        "hgisam/windows.py": "",
        "hgisam/unused.py": "",
        "hgisam/lazy/__init__.py": "if TYPE_CHECKING:\n  from hgisam.lazy.a import b\n  from hgisam.lazy.c import d",
        "hgisam/lazy/a.py": "",
        "hgisam/lazy/c.py": "if TYPE_CHECKING:\n    from hgisam import unused",
        "book/hgisam_book/__init__.py": "",
        "book/hgisam_book/study.py": "from hgisam.lazy import b",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def names(code: str) -> list[str]:
        found = sources_of(code, (tmp_path, tmp_path / "book"))
        return [path.relative_to(tmp_path).as_posix().removeprefix("hgisam/") for path in found]

    assert names("from hgisam import train") == ["__init__.py", "data.py", "errors.py", "train.py"]
    assert names("import hgisam.maps") == ["__init__.py", "maps/__init__.py", "maps/cam.py", "windows.py"]
    lazy = ["__init__.py", "lazy/__init__.py"]
    assert names("import hgisam.lazy") == lazy  # names that are imported when they are used
    assert names("from hgisam.lazy import d") == [*lazy, "lazy/c.py"]  # and imports for type checkers alone
    study = ["book/hgisam_book/__init__.py", "book/hgisam_book/study.py"]
    assert names("from hgisam_book import study") == [*study, *lazy, "lazy/a.py"]


def test_a_step_depends_on_what_it_imports_and_on_nothing_else() -> None:
    package = {f"hgisam/{name}.py" for name in ("__init__", "lazy", "errors")}  # what importing anything of it reads
    contract = {f"hgisam/data/{name}.py" for name in ("__init__", "arrays", "labels", "prepared")}
    runs = {f"hgisam/runs/{name}.py" for name in ("__init__", "files", "folders")}
    assert _names("import hgisam.data.prepared") == contract | runs | package
    training = _names("import hgisam.training.loop")
    assert {"hgisam/data/preprocess.py", "hgisam/models/networks.py", "hgisam/data/windows.py"} <= training
    others = {"evaluation/measurements", "inference/extraction", "maps/hgi_sam"}
    assert training.isdisjoint({f"hgisam/{name}.py" for name in others})
    assert sources_of("import numpy") == []
    assert set(sources_of("import hgisam.training.loop")) < set(package_sources())


def _work(folder: Path) -> None:
    (folder / "result.txt").write_text("x")


def test_only_a_change_of_its_own_code_makes_a_step_again(
    tiny: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "module.py"
    source.write_text("a = 1")
    follow: Callable[[str], list[Path]] = lambda code: [source] if "mine" in code else []  # noqa: E731
    monkeypatch.setattr(run_module, "sources_of", follow)
    arguments = {"sections": ("train",), "inputs": {}}

    def made_at(step: str, code: list[str]) -> int:
        return (Run(tiny, tmp_path).make(step, _work, code=code, **arguments) / "result.txt").stat().st_mtime_ns

    mine, other = made_at("mine", ["mine"]), made_at("other", ["other"])
    assert (made_at("mine", ["mine"]), made_at("other", ["other"])) == (mine, other)
    source.write_text("a = 2")
    assert made_at("mine", ["mine"]) > mine
    assert made_at("other", ["other"]) == other

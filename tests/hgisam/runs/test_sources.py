"""Whose change makes a step's result out of date."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hgisam.config.profile import Profile
from hgisam.runs import steps as run_module
from hgisam.runs.sources import package_sources, sources_of
from hgisam.runs.steps import run_step


def _names(code: str) -> set[str]:
    return {"/".join(path.parts[-2:]) for path in sources_of(code)}


def test_a_step_depends_on_what_it_imports_and_on_nothing_else() -> None:
    files = ("__init__", "profile", "keys", "networks", "errors")
    package = {f"hgisam/{name}.py" for name in files}  # what importing anything of it reads
    assert _names("import hgisam.data.prepared") == {
        "hgisam/data/prepared.py",
        "hgisam/runs/folders.py",
        "hgisam/data/arrays.py",
        *package,
    }
    training = _names("import hgisam.training.loop")
    assert {"hgisam/data/batches.py", "hgisam/models/networks.py", "hgisam/data/windows.py"} <= training
    assert training.isdisjoint(
        {"hgisam/evaluation/measurements.py", "book/hgisam_book/report.py", "figures/charts.py", "data_prep/brain.py"}
    )
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
        return (run_step(tiny, tmp_path, step, _work, code=code, **arguments) / "result.txt").stat().st_mtime_ns

    mine, other = made_at("mine", ["mine"]), made_at("other", ["other"])
    assert (made_at("mine", ["mine"]), made_at("other", ["other"])) == (mine, other)
    source.write_text("a = 2")
    assert made_at("mine", ["mine"]) > mine
    assert made_at("other", ["other"]) == other

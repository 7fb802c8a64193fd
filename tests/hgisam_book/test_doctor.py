from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from hgisam.cli import app
from hgisam_book import doctor
from tests.conftest import make_prepared


def of(findings: list[doctor.Finding], what: str) -> doctor.Finding:
    return next(finding for finding in findings if finding.what == what)


def test_a_machine_that_runs_the_tests_lacks_nothing(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path / "not" / "yet", [make_prepared(tmp_path / "set")])
    assert [finding for finding in findings if finding.state == doctor.BAD] == []
    assert "patients, masks" in of(findings, "data set").found


def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=0.5e9))
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: ["torch>=99", "no-such-package-at-all"])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    findings = doctor.examine(tmp_path, [tmp_path / "absent"])
    assert of(findings, "disk").state == doctor.BAD
    assert "not >=99, no no-such-package-at-all" in of(findings, "packages").found
    assert of(findings, "packages").remedy == "Run `make environment`."
    assert "no such folder" in of(findings, "data absent").found
    said = doctor.can_run(tmp_path)
    assert said["smoke"].startswith("no:")
    assert "disk 0 of 5 GB" in said["laptop"]
    assert "GPU memory 0 of 24 GB" in said["paper"]


def test_the_packages_of_all_extras_but_dev_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        "torch", "absent-1; extra == 'train'", "absent-2 ; extra == 'prep'", "absent-2 ; extra == 'book'",
        "absent-3; extra == 'dev'", "hgisam[train,prep]; extra == 'book'",
    ]  # fmt: skip
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: requires)
    assert doctor._packages().found == "no absent-1, no absent-2"


def test_the_command_ends_with_one_where_something_is_missing(tmp_path: Path) -> None:
    good = CliRunner().invoke(app, ["doctor", "--runs-dir", str(tmp_path)])
    assert good.exit_code == 0, good.output
    assert "profile smoke: yes" in good.output
    bad = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path / "absent")])
    assert bad.exit_code == 1
    assert "missing  data absent" in bad.output

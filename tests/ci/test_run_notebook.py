import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import nbformat
import pytest

import run_notebook
from hgisam.errors import InputError

PARAMETERS = """profile: str = "laptop"  # a.b=c
epochs: int = 3  # how many
rate: float = 0.1  # of learning
fast: bool = False  # so
"""


def write(path: Path, *sources: str) -> Path:
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    book.cells = [nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell(PARAMETERS)]
    book.cells[1].metadata.tags = ["parameters"]
    book.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(book, path)
    return path


def test_parameters_get_their_declared_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ipynb")
    given = ["profile=a=b", "epochs=4", "rate=1e-3", "fast=true"]
    assert run_notebook.checked_parameters(path, given) == {"profile": "a=b", "epochs": 4, "rate": 1e-3, "fast": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("profil=x", "Did you mean profile"),
        ("profile", "got no value"),
        ("epochs=many", "expected int"),
        ("epochs=true", "expected int"),
        ("fast=1", "expected bool"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path: Path, given: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        run_notebook.checked_parameters(write(tmp_path / "a.ipynb"), [given])


def test_missing_and_broken_notebooks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        run_notebook.checked_parameters(tmp_path / "a.ipynb", [])
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(InputError, match="unreadable"):
        run_notebook.checked_parameters(tmp_path / "a.ipynb", [])


def test_progress_bars_are_resolved_without_a_terminal() -> None:
    log, terminal = StringIO(), StringIO()
    console = run_notebook.Console(log, terminal)
    console.write("train: 10%\rtrain: 60%")
    console.write("\rtrain: 100%\nnext")
    console.close()
    assert log.getvalue() == terminal.getvalue() == "train: 100%\nnext\n"


def run(notebook: Path, out: Path, *parameters: str, expect: str = "") -> subprocess.CompletedProcess[str]:
    program = [sys.executable, run_notebook.__file__, str(notebook), str(out), "--logs", str(out.parent / "logs")]
    extra = ["--expect", str(out.parent / expect)] if expect else []
    return subprocess.run([*program, *extra, "--parameters", *parameters], capture_output=True, text=True)


def test_a_successful_run_is_complete_and_names_no_path(tmp_path: Path) -> None:
    notebook = write(tmp_path / "a.ipynb", "import sys; print('warn', file=sys.stderr); print(epochs)")
    result = run(notebook, tmp_path / "out" / "a.ipynb", "epochs=7", f"profile={tmp_path}/p.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    text = (tmp_path / "out" / "a.ipynb").read_text()
    assert str(tmp_path) not in text
    assert "".join(json.loads(text)["cells"][-1]["outputs"][0]["text"]) == "7\n"
    assert "warn" not in json.dumps(json.loads(text)["cells"][-1]["outputs"])
    assert "warn" in (tmp_path / "out/logs/a.log").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ipynb", "logs"]


def test_failures_are_one_line_and_leave_no_output(tmp_path: Path) -> None:
    error = "from hgisam.errors import InputError\nraise InputError('runs/x', 'nothing', 'a run', 'Run 04 first.')"
    out = tmp_path / "out" / "a.ipynb"
    result = run(write(tmp_path / "a.ipynb", error), out)
    assert result.returncode == 2
    assert result.stdout.splitlines()[-1] == "✗ a: runs/x: got nothing, expected a run. Run 04 first."
    assert "Traceback" not in result.stdout + result.stderr
    assert not out.exists()
    assert (tmp_path / "out/logs/a_failed.ipynb").is_file()

    result = run(write(tmp_path / "a.ipynb", "1 / 0"), out)
    assert result.returncode == 1
    assert "ZeroDivisionError: division by zero" in result.stdout.splitlines()[-1]
    assert "Traceback" not in result.stdout + result.stderr
    assert "ZeroDivisionError" in (tmp_path / "out/logs/a.log").read_text()


def test_expected_files_are_checked(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.ipynb", "1"), tmp_path / "out" / "a.ipynb", expect="train/manifest.json")
    assert result.returncode == 1
    assert "ended without writing" in result.stdout
    assert not (tmp_path / "out" / "a.ipynb").exists()


def test_an_unknown_parameter_exits_with_two_before_running(tmp_path: Path) -> None:
    result = run(write(tmp_path / "a.ipynb", "1"), tmp_path / "out" / "a.ipynb", "profil=x")
    assert result.returncode == 2
    assert "Did you mean profile?" in result.stdout
    assert not (tmp_path / "out").exists()

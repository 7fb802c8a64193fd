"""Run a notebook with papermill: check its parameters first, show progress, write the result only on success.

    python book/run_notebook.py book/04_training.ipynb out.ipynb --parameters profile=smoke runs_dir=runs

papermill itself only logs an unknown parameter, leaves a partial output behind when a cell fails, and keeps absolute
paths in the metadata. Here a failed notebook goes to the logs folder, with its error as one line.
Exit codes: 0 on success, 2 for an error that the user can fix, 1 for any other error.
"""

import argparse
import ast
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, TextIO

# use the kernel of this environment, not one of the same name in the home folder; no warnings about progress bars
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from facts import RESTORE, duration, read_chapter
from hgisam.errors import InputError
from hgisam_book.parameters import require_known, require_type

PARENT_ENV = "HGISAM_BOOK_PID"  # process with which this one exits, set by make and build.py
ABSOLUTE = re.compile(r"^(/|[A-Za-z]:[\\/])")
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def declared_parameters(notebook: Path) -> dict[str, str]:
    """Parameters of a notebook: name → annotated type, from the cell tagged `parameters`.

    Reads the syntax tree, because papermill's own parser uses regular expressions and misses some comments.

    Raises:
        InputError: If the file is not a notebook, or its parameters cell is not valid Python.
    """
    cells = read_chapter(notebook).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    try:
        statements = ast.parse("\n".join(tagged)).body
    except SyntaxError as error:
        raise InputError(f"parameters of {notebook}", f"unreadable ({error})", "Python", RESTORE) from None
    known = {}
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            known[statement.target.id] = ast.unparse(statement.annotation)
        elif isinstance(statement, ast.Assign):
            known |= {target.id: "" for target in statement.targets if isinstance(target, ast.Name)}
    return known


def checked_parameters(notebook: Path, given: list[str]) -> dict[str, Any]:
    """Parse `name=value` arguments into the types that the notebook declares.

    Args:
        notebook: Path of the notebook.
        given: Arguments as "name=value".

    Raises:
        InputError: If the notebook does not exist, lacks the parameter, or the value has another type.
    """
    if not notebook.is_file():
        raise InputError(f"notebook {notebook}", "no such file", "an .ipynb file", "Use one of book/*.ipynb.")
    known = declared_parameters(notebook)
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        require_known(name, value, known, notebook.name)
        if not equals:
            raise InputError(f"parameter {name} of {notebook.name}", "no value", f"{name}=VALUE", "Add a value.")
        values[name] = value if known[name] == "str" else _parsed(value)
        require_type(name, values[name], known[name], notebook.name)
    return values


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


class Console:
    """Stream that copies notebook output to the log and the terminal; progress bars update only in a real terminal."""

    def __init__(self, log: TextIO, terminal: TextIO | None = None) -> None:
        self.log, self.terminal = log, terminal or sys.stdout
        self.line = ""
        self.lock = threading.Lock()

    def write(self, text: str) -> int:
        """Write text; carriage returns are passed to a terminal and resolved in a log."""
        with self.lock:
            if self.terminal.isatty():
                self.terminal.write(text)
            for char in text.replace("\r\n", "\n"):
                if char == "\n":
                    self._end_line()
                elif char == "\r":
                    self.line = ""
                else:
                    self.line += char
        return len(text)

    def _end_line(self) -> None:
        self.log.write(self.line + "\n")
        if not self.terminal.isatty() and self.line.strip():
            self.terminal.write(self.line + "\n")
        self.line = ""

    def flush(self) -> None:
        """Flush the log and the terminal."""
        self.log.flush()
        self.terminal.flush()

    def close(self) -> None:
        """Write the rest of the last line."""
        if self.line:
            self.write("\n")
        self.flush()


def cleaned(notebook: nbformat.NotebookNode, source: Path) -> nbformat.NotebookNode:
    """Executed notebook without traces of this machine: absolute paths and progress bars."""
    record = notebook.metadata.setdefault("papermill", {})
    record["input_path"], record["output_path"] = f"{source.parent.name}/{source.name}", source.name
    for name, value in record.get("parameters", {}).items():
        record["parameters"][name] = shortened(value)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.source = re.sub(r'"(/[^"\n]*)"', lambda found: f'"{shortened(found[1])}"', cell.source)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


def shortened(value: Any) -> Any:
    """Absolute path as `…/last-part`; any other value unchanged."""
    return f"…/{Path(value).name}" if isinstance(value, str) and ABSOLUTE.match(value) else value


def failure(error: PapermillExecutionError, notebook: str) -> tuple[int, str]:
    """Exit code and one-line message for a failed cell."""
    first = " ".join(ANSI.sub("", str(error.evalue)).split()) or "no message"
    if error.ename == "InputError":
        return 2, first
    if error.ename == "KeyboardInterrupt":
        return 130, "stopped"
    return 1, f"{notebook}, cell {error.exec_count}: {error.ename}: {first[:600]}"


def is_alive(pid: int) -> bool:
    """True if a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def exit_with(parent: int) -> None:
    """Watch a parent process in a thread, and end this process and its kernel when the parent is gone, e.g. killed."""

    def watch() -> None:
        while True:
            if not is_alive(parent):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(1)

    threading.Thread(target=watch, daemon=True).start()


def write_whole(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook to a temporary file and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    nbformat.write(notebook, scratch)
    scratch.replace(path)


def run(source: Path, out: Path, values: dict[str, Any], logs: Path) -> tuple[int, str]:
    """Execute a notebook.

    Args:
        source: Notebook to run.
        out: File for the executed notebook.
        values: Parameters.
        logs: Folder for the log and a failed notebook.

    Returns:
        Exit code, and a one-line error message or "".
    """
    logs.mkdir(parents=True, exist_ok=True)
    failed = logs / f"{source.stem}_failed.ipynb"
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch, (logs / f"{source.stem}.log").open("w", encoding="utf-8") as log:
        partial = Path(scratch) / source.name
        console = Console(log)
        problem: tuple[int, str] | None = None
        try:
            papermill.execute_notebook(
                str(source), str(partial), parameters=values, kernel_name="python3", language="python",
                progress_bar=False, log_output=False, stdout_file=console, stderr_file=console,
                request_save_on_cell_execute=False,
            )  # fmt: skip
        except PapermillExecutionError as error:
            problem = failure(error, source.name)
            log.write("\n" + ANSI.sub("", "\n".join(error.traceback)) + "\n")
        except KeyboardInterrupt:
            problem = 130, "stopped"
        except Exception as error:  # e.g. a dead kernel or a full disk
            problem = 1, f"{source.name}: {type(error).__name__}: {' '.join(str(error).split())}"
        console.close()
        if problem is None:
            write_whole(cleaned(nbformat.read(partial, as_version=4), source), out)
            return 0, ""
        if partial.is_file() and problem[0] != 130:
            failed.write_bytes(partial.read_bytes())
            if problem[0] == 1:
                problem = 1, f"{problem[1]} (traceback: {logs / source.stem}.log, notebook: {failed})"
        return problem


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--logs", type=Path, default=Path("logs"))
    parser.add_argument("--expect", type=Path, nargs="*", default=[], help="files that the notebook has to write")
    parser.add_argument("--parameters", nargs="*", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    if PARENT_ENV in os.environ:
        exit_with(int(os.environ[PARENT_ENV]))
    name = arguments.notebook.stem
    try:
        values = checked_parameters(arguments.notebook, arguments.parameters)
        print(f"▶ {name}", flush=True)
        clock = time.perf_counter()
        code, problem = run(arguments.notebook, arguments.out, values, arguments.logs)
        missing = [str(path) for path in arguments.expect if str(path) != "." and not path.is_file()]
        if code == 0 and missing:
            arguments.out.unlink()
            code, problem = 1, f"{name} ended without writing {', '.join(missing)}"
    except InputError as error:
        code, problem = 2, str(error)
    except OSError as error:
        code, problem = 1, f"{name}: {error}"
    if code:
        print(f"✗ {name}: {problem}" if not problem.startswith(name) else f"✗ {problem}", flush=True)
        return code
    print(f"✓ {name} ({duration(time.perf_counter() - clock)})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

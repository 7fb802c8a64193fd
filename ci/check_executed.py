"""Gate: all notebooks of a run were executed without errors, figures have captions, and all output files exist.

python ci/check_executed.py runs/smoke
"""

import json
import sys
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from hgisam.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))

from facts import read_chapter  # noqa: E402
from steps import STEPS  # noqa: E402

FIGURE, EXERCISE = "figure-plotly", {"hide-input", "hide-cell"}  # figures of exercises have no caption


def problems(notebook: NotebookNode) -> list[str]:
    """Problems with an executed notebook."""
    record, found = notebook.metadata.get("papermill", {}), []
    if not record:
        found.append("not written by papermill")
    elif record.get("exception"):
        found.append("papermill recorded an exception")
    for number, cell in enumerate(notebook.cells):
        if cell["cell_type"] == "code":
            found += [f"cell {number}: {problem}" for problem in _cell_problems(cell)]
    return found


def _cell_problems(cell: dict[str, Any]) -> list[str]:
    found, figure = [], cell["metadata"].get("mystnb", {}).get("figure", {})
    if "".join(cell["source"]).strip() and cell.get("execution_count") is None:
        found.append("not executed")
    for output in cell.get("outputs", []):
        if output["output_type"] == "error":
            found.append(f"ended with {output.get('ename')}: {output.get('evalue')}")
        text = json.dumps(output.get("data", output.get("text", "")))
        if str(ROOT) + "/" in text or str(Path.home()) + "/" in text:
            found.append("an output contains a path of this machine")
        if FIGURE in text and not EXERCISE & {*cell["metadata"].get("tags", [])} and not figure.get("caption"):
            found.append("a figure without a label and a caption (mystnb: figure: name, caption)")
        if "<script" in text and "https://" in text.split("<script", 1)[1].split(">", 1)[0]:
            found.append("an output loads a script from another host")
    return found


def run_problems(run: Path) -> list[str]:
    """Problems with a run: notebooks not executed, output files missing or empty."""
    found = []
    for name, step in STEPS.items():
        path = run / "notebooks" / f"{name}.ipynb"
        if not path.is_file():
            found.append(f"{path}: missing")
            continue
        try:
            notebook = read_chapter(path)
        except InputError as error:
            found.append(f"{path}: {error}")
            continue
        found += [f"{path}: {problem}" for problem in problems(notebook)]
        parameters = notebook.metadata.get("papermill", {}).get("parameters", {})
        for made in step.makes:
            replaced = made.startswith("phantom/") and parameters.get(made.split("/")[1].replace("-", "_"))
            if not replaced and not ((run / made).is_file() and (run / made).stat().st_size):
                found.append(f"{run / made}: missing or empty")
    return found


def main(arguments: list[str]) -> int:
    """Command line."""
    if len(arguments) != 1:
        print("usage: python ci/check_executed.py runs/<profile>")
        return 2
    found = run_problems(Path(arguments[0]))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_executed: {f'{len(found)} problems' if found else 'ok'}, {len(STEPS)} notebooks")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Gate: notebooks in book/ are sources without outputs, with a kernelspec, a title, and typed, documented parameters.

They contain no absolute paths. Figures have captions and labels with the chapter number, and at least one term links to
the glossary.
"""

import ast
import re
import sys
from pathlib import Path
from typing import Any

from hgisam.errors import InputError

BOOK = Path(__file__).resolve().parent.parent / "book"
sys.path.insert(0, str(BOOK))

from facts import read_chapter  # noqa: E402

CHECK = "check_parameters(globals())"
ABSOLUTE = re.compile(r"(?<![\w.:/…])/(?:home|Users|root|tmp|mnt|work|opt|var|media)/|\b[A-Z]:\\\\")
COLUMNS = 88  # of a page
TERM = re.compile(r"\{term\}`[^`]+`")


def problems(path: Path) -> list[str]:
    """Problems with a notebook, one line each."""
    try:
        notebook = read_chapter(path)
    except InputError as error:
        return [str(error)]
    cells = notebook.cells
    number = path.stem.split("_")[0]
    rules = (_title(cells), _parameters(cells), _figures(cells, number), _terms(cells), _width(cells))
    return [*_sources(notebook, cells), *(problem for rule in rules for problem in rule)]


def _sources(notebook: dict[str, Any], cells: list[dict[str, Any]]) -> list[str]:
    found = []
    if notebook.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        found.append("kernelspec is not python3")
    for number, cell in enumerate(cells):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            found.append(f"cell {number} has outputs or was executed: clear them")
        if match := ABSOLUTE.search("".join(cell["source"])):
            found.append(f"cell {number} contains an absolute path ({match.group()}…)")
    return found


def _title(cells: list[dict[str, Any]]) -> list[str]:
    first = "".join(cells[0]["source"]) if cells else ""
    if cells and cells[0]["cell_type"] == "markdown" and first.startswith("# "):
        return []
    return ["the first cell does not start with a title (# …)"]


def _parameters(cells: list[dict[str, Any]]) -> list[str]:
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells are tagged parameters, expected one"]
    source = "".join(tagged[0]["source"])
    found = []
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        return [f"the parameters cell is not Python ({error})"]
    lines = source.splitlines()
    for statement in statements:
        text = lines[statement.lineno - 1]
        if not isinstance(statement, ast.AnnAssign) or statement.value is None:
            found.append(f"parameters: {text!r} is not `name: type = value`")
        elif "#" not in "\n".join(lines[statement.lineno - 1 : statement.end_lineno]):
            found.append(f"parameters: {text!r} has no comment")
    calls = [cell for cell in cells if cell["cell_type"] == "code" and CHECK in "".join(cell["source"])]
    if not calls:
        found.append(f"no cell calls {CHECK}: a misspelt parameter would be ignored")
    return found or ([] if statements else ["the parameters cell is empty"])


def _figures(cells: list[dict[str, Any]], number: str) -> list[str]:
    found, seen = [], set()
    for place, cell in enumerate(cells):
        if (figure := cell.get("metadata", {}).get("mystnb", {}).get("figure")) is None:
            continue
        name, caption = str(figure.get("name", "")), str(figure.get("caption", ""))
        if not name.startswith(f"fig-{number}-") or name in seen:
            found.append(f"cell {place}: the figure label {name!r} is not unique or does not start with fig-{number}-")
        if not caption.endswith("."):
            found.append(f"cell {place}: the figure caption {caption!r} is not a sentence")
        seen.add(name)
    return found


def _terms(cells: list[dict[str, Any]]) -> list[str]:
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return [] if TERM.search(text) else ["no term links to the glossary ({term}`…`)"]


def _width(cells: list[dict[str, Any]]) -> list[str]:
    """Visible lines of code that are wider than a page."""
    found = []
    for number, cell in enumerate(cells):
        hidden = any(tag.startswith(("hide", "remove")) for tag in cell.get("metadata", {}).get("tags", []))
        lines = "".join(cell["source"]).splitlines() if cell["cell_type"] == "code" and not hidden else []
        found += [f"cell {number}: {len(line)} columns, more than {COLUMNS}" for line in lines if len(line) > COLUMNS]
    return found


def main(arguments: list[str]) -> int:
    """Check the given notebooks, or all of book/."""
    paths = [Path(argument) for argument in arguments] or sorted(Path("book").glob("[0-9]*.ipynb"))
    found = [f"{path}: {problem}" for path in paths for problem in problems(path)]
    if not paths:
        found = ["book/: no notebooks"]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"check_notebooks: {f'{len(found)} problems' if found else 'ok'}, {len(paths)} notebooks")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

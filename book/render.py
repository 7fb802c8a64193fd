"""Render the book from executed notebooks; the target folder is replaced only on success.

    python book/render.py _build/html --run runs/laptop --notebooks runs/laptop/notebooks/*.ipynb [--key]

Warnings, including dangling references, are errors. Needs no network. Chapters without a notebook are still running:
their pages say so, and references to their figures dangle.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from facts import read_chapter, run_page, with_facts
from first_page import first_page
from hgisam.config.overrides import read_yaml
from hgisam.errors import InputError, exit_line
from hgisam.runs.files import read_json
from hgisam.runs.folders import replace_folder
from hgisam_book.ledger import read_summary
from numbering import numbers_of
from steps import STEPS
from teaching import answer_key, exercise_notebook, title_of

BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
BOOK = Path(__file__).parent
PAGES = ("*.md", "*.bib", "_toc.yml", "_static", "_ext")
WAITING = """# {title}

:::{{note}}
This chapter is still running. Reload the page when `make book` has ended.
:::
"""
WARNING = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b", re.IGNORECASE)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def write_yaml(path: Path, content: Any) -> None:
    """Writes a YAML file for Jupyter Book, as JSON: its YAML 1.1 reads an unquoted `off` as false."""
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def stage(folder: Path, notebooks: list[Path], summary: Mapping[str, Any], *, key: bool = False) -> None:
    """Write the sources of the site: pages, executed chapters, and the pages generated from them.

    Args:
        folder: New folder of the sources; an earlier one is deleted.
        notebooks: Executed notebooks; a chapter without one gets a page that says so.
        summary: `summary.json` of their run.
        key: Add a page with the solutions of all chapters.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "book").mkdir(parents=True)
    config = read_yaml(BOOK.parent / "_config.yml", "_config.yml")
    if url := config.pop("repository", {}).get("url"):
        config["sphinx"]["config"]["html_theme_options"] |= {
            "repository_url": url, "use_repository_button": True, "repository_branch": "main",
            "path_to_docs": BOOK.name,
            "launch_buttons": {"binderhub_url": BINDER, "colab_url": COLAB},
        }  # fmt: skip
    write_yaml(folder / "_config.yml", config)
    for path in (path for pattern in PAGES for path in BOOK.glob(pattern)):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / "book" / path.name)
    chapters = {path.stem: read_chapter(path) for path in sorted(notebooks)}
    labels = numbers_of(chapters)
    records = [read_json(path) for path in sorted(BOOK.glob("recorded/*/record.json"))]
    (folder / "book" / "exercises").mkdir()
    pages = {"what_this_run_was": run_page(chapters, {s: STEPS[s].needs for s in STEPS})}
    for name in STEPS.keys() - chapters.keys():
        pages[name] = WAITING.format(title=title_of(read_chapter(BOOK / f"{name}.ipynb")))
    if key:
        pages["key"] = answer_key(chapters)
        contents = read_yaml(folder / "book" / "_toc.yml", "_toc.yml")
        for_teachers = next(part["chapters"] for part in contents["parts"] if {"file": "teaching"} in part["chapters"])
        for_teachers.append({"file": "key"})
        write_yaml(folder / "book" / "_toc.yml", contents)
    for name, chapter in chapters.items():
        nbformat.write(exercise_notebook(chapter, labels), folder / "book" / "exercises" / f"{name}.ipynb")
        nbformat.write(with_facts(chapter, name, records), folder / "book" / f"{name}.ipynb")
    index = folder / "book" / "index.md"
    nbformat.write(first_page(index, chapters, summary), index.with_suffix(".ipynb"))
    index.unlink()
    for name, text in pages.items():
        (folder / "book" / f"{name}.md").write_text(text, encoding="utf-8")


def warnings_in(output: str) -> list[str]:
    """Warnings and errors in the output of Sphinx, without duplicates."""
    lines = (ANSI.sub("", line).strip() for line in output.splitlines())
    return list(dict.fromkeys(line for line in lines if WARNING.search(line) and "treated as errors" not in line))


def build(work: Path, log: Path, *options: str, strict: bool = True) -> bool:
    """Run Jupyter Book on the staged sources, into `_build` of the same folder, and print its first warnings.

    Args:
        work: Folder from `stage`.
        log: File for the whole output.
        options: Further options of `jupyter-book build`, such as the builder.
        strict: Warnings, including dangling references, are errors.

    Returns:
        True on success.
    """
    program = str(Path(sys.executable).with_name("jupyter-book"))
    checks = ("-n", "-W", "--keep-going") if strict else ()
    command = [program, "build", "book", "--path-output", ".", *checks, *options]
    result = subprocess.run(command, cwd=work, capture_output=True, text=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(result.stdout + result.stderr, encoding="utf-8")
    if result.returncode:
        for line in warnings_in(result.stdout + result.stderr)[:10]:
            print(f"  {line.replace(str(work.resolve()) + '/', '')}")
    return not result.returncode


def command_line(description: str) -> argparse.ArgumentParser:
    """Command line of `render.py` and `printing.py`: site, run, notebooks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("site", type=Path)
    parser.add_argument("--run", type=Path, required=True, help="folder with summary.json and logs/, e.g. runs/laptop")
    parser.add_argument("--notebooks", type=Path, nargs="+", required=True)
    return parser


def main() -> int:
    """Command line."""
    parser = command_line(__doc__.splitlines()[0])
    parser.add_argument("--key", action="store_true", help="add a page with the solutions of all chapters")
    arguments = parser.parse_args()
    clock = time.perf_counter()
    print("▶ pages", flush=True)
    work = arguments.site.parent / "source"
    try:
        stage(work, arguments.notebooks, read_summary(arguments.run), key=arguments.key)
    except InputError as error:
        print(f"✗ pages: {error}", flush=True)
        return 2
    except OSError as error:
        code, line = exit_line(error)
        print(f"✗ pages: {line}", flush=True)
        return code
    log = arguments.run / "logs" / "render.log"
    built = work / "_build" / "html"
    waiting = STEPS.keys() - {path.stem for path in arguments.notebooks}
    if not build(work, log, strict=not waiting) or not (built / "index.html").is_file():
        print(f"✗ pages: not rendered; see {log}", flush=True)
        return 1
    replace_folder(built, arguments.site)
    print(f"✓ pages ({time.perf_counter() - clock:.0f} s)", flush=True)
    if waiting:
        read = len(STEPS) - len(waiting)
        print(f"  {read} of {len(STEPS)} chapters can be read: {arguments.site / 'index.html'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The zip of a class (`make class`): student notebooks, a small prepared set, a spoilt one to debug, and a wheel.

    python book/class_zip.py _build/class.zip --seed 7

The key, with all solutions and the faults of the spoilt set, is a file beside the zip and never in it.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from build_wheel import build_wheel
from data_prep import prepare, write_phantom
from facts import read_chapter
from hgisam.errors import InputError, exit_line
from numbering import numbers_of
from spoilt_set import write_spoilt
from teaching import answer_key, exercise_notebook

BOOK = Path(__file__).parent
HANDOUT = BOOK / "class"  # README and notebook that are only in the zip
PATIENTS, MATRIX, IMAGE_PX = 24, 192, 96  # small enough for a download, large enough to see a thin bleed
PROFILE = 'profile: str = "laptop"'
STUDENT_PROFILE = 'profile: str = "smoke"'  # minutes instead of hours
MYST = (  # roles that only Sphinx knows → plain text
    (re.compile(r"\{doc\}`(\w+)`"), r"\1"),
    (re.compile(r"\{[\w:]+\}`([^`<]+?)(?: <[^`]*>)?`"), r"\1"),
)


def student_notebooks() -> dict[str, NotebookNode]:
    """Name → notebook without outputs and solutions, of every chapter, with the profile `smoke`."""
    chapters = {path.stem: read_chapter(path) for path in sorted(BOOK.glob("[0-9]*.ipynb"))}
    numbers = numbers_of(chapters)
    notebooks = {name: exercise_notebook(chapter, numbers) for name, chapter in chapters.items()}
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = cell.source.replace(PROFILE, STUDENT_PROFILE)
    return notebooks


def write_sets(folder: Path, *, patients: int, seed: int, matrix: int, image_px: int) -> list[tuple[str, str]]:
    """Write `prepared` and `spoilt` into a folder; returns the faults as `write_spoilt` does."""
    jobs = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="class-") as scratch:
        raw = write_phantom(
            Path(scratch, "raw"), layout="ct-ich", patients=patients, seed=seed, jobs=jobs, matrix=matrix
        )
        good = prepare("ct-ich", raw, Path(scratch, "prepared"), image_px=image_px, seed=seed, workers=jobs)
        shutil.copytree(good, folder / "prepared")
    return write_spoilt(folder / "prepared", folder / "spoilt", seed)


def class_key(faults: list[tuple[str, str]]) -> str:
    """Key for the teacher: the faults of the spoilt set, then all solutions and right answers, as Markdown."""
    key = answer_key({path.stem: read_chapter(path) for path in sorted(BOOK.glob("[0-9]*.ipynb"))})
    for role, plain in MYST:
        key = role.sub(plain, key)
    listed = "\n".join(f"- **{study}**: {text}" for study, text in faults)
    solutions = key.replace("# Answer", "## Answer", 1)
    return f"# Key: for the teacher alone\n\n## The faults of data/spoilt\n\n{listed}\n\n{solutions}"


def write_class(
    out: str | Path, *, seed: int = 0, patients: int = PATIENTS, matrix: int = MATRIX, image_px: int = IMAGE_PX
) -> Path:
    """Write the zip of a class, and the key beside it.

    Args:
        out: The zip; an earlier one is replaced.
        seed: Seed of the phantoms, and of the faults.
        patients: Number of phantoms.
        matrix: Rows and columns of their slices.
        image_px: Rows and columns of the prepared slices.

    Returns:
        Path of the key.

    Raises:
        InputError: If `out` is no zip, or there are too few bleeding phantoms for all faults.
    """
    out = Path(out)
    if out.suffix != ".zip":
        raise InputError("OUT", str(out), "a file name that ends in .zip", "Give another name.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".class-", dir=out.parent) as scratch:
        folder = Path(scratch, "class")
        (folder / "book" / "recorded").mkdir(parents=True)
        faults = write_sets(folder / "data", patients=patients, seed=seed, matrix=matrix, image_px=image_px)
        for name, notebook in student_notebooks().items():
            nbformat.write(notebook, folder / f"{name}.ipynb")
        shutil.copy(HANDOUT / "debug_a_set.ipynb", folder)
        for record in BOOK.glob("recorded/*.json"):  # benchmarks and real heads, which chapters show
            shutil.copy(record, folder / "book" / "recorded" / record.name)
        shutil.copy(BOOK.parent / "requirements.lock", folder / "requirements.lock")
        Path(scratch, "wheel").mkdir()
        wheel = build_wheel(BOOK.parent, Path(scratch, "wheel"))
        shutil.copy(wheel, folder / wheel.name)
        readme = (HANDOUT / "README.md").read_text(encoding="utf-8")
        (folder / "README.md").write_text(readme.replace("WHEEL", wheel.name), encoding="utf-8")
        packed, key = Path(scratch, out.name), out.with_name(f"{out.stem}-key.md")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                archive.write(path, path.relative_to(scratch).as_posix())
        packed.replace(out)
        key.write_text(class_key(faults), encoding="utf-8")
    return key


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="another seed is another class: other phantoms and faults")
    arguments = parser.parse_args()
    clock = time.perf_counter()
    print("▶ class: notebooks, two prepared sets, a wheel; a few minutes", flush=True)
    try:
        key = write_class(arguments.out, seed=arguments.seed)
    except (InputError, RuntimeError) as error:
        print(f"✗ class: {error}", flush=True)
        return 2 if isinstance(error, InputError) else 1
    except OSError as error:
        code, line = exit_line(error)
        print(f"✗ class: {line}", flush=True)
        return code
    size = arguments.out.stat().st_size / 1e6
    print(f"✓ class: {arguments.out} ({size:.0f} MB, {time.perf_counter() - clock:.0f} s); your key: {key}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds the wheel of a checkout, for the gate of the wheel and for the zip of a class."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "hgisam": "hgisam",
    "data_prep": "data_prep",
    "hgisam_scans": "hgisam_scans",
    "hgisam_book": "book/hgisam_book",
}
JUNK = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")


def build_wheel(root: str | Path, out: str | Path) -> Path:
    """Build the wheel from a copy of the checkout, so that no build folder is left in it.

    Args:
        root: The checkout.
        out: Folder for the wheel; gets the copy too, as `source`.

    Returns:
        The wheel.

    Raises:
        RuntimeError: If it can't be built.
    """
    root, out = Path(root), Path(out)
    copy = out / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy / name)
    for folder in PACKAGES.values():
        shutil.copytree(root / folder, copy / folder, ignore=JUNK)
    isolation = ["--no-build-isolation"] if find_spec("setuptools") else []
    options = ["--quiet", "--no-deps", *isolation, "--wheel-dir", str(out)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(copy)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        last = ((result.stderr or result.stdout).strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise RuntimeError(f"pip wheel failed: {last}")
    return next(out.glob("*.whl"))

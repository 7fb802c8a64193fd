"""Which of our own source files a piece of code reads: what decides whether a result is out of date."""

import ast
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGES = ("hgisam", "data_prep", "hgisam_book")
ROOT = Path(__file__).parents[2]  # the folder that holds the packages; that of the book lies in book/


def sources_of(code: str, root: Path = ROOT) -> list[Path]:
    """Source files of our packages that some Python code imports, directly or through others.

    Args:
        code: Python source, e.g. `from hgisam import train`.
        root: Folder that holds the packages.
    """
    waiting = list(_imports(ast.parse(code), package=""))
    found: set[Path] = set()
    while waiting:
        for path in _files_of(waiting.pop(), root):
            if path not in found:
                found.add(path)
                package = ".".join(path.relative_to(root).parent.parts)
                code = path.read_text(encoding="utf-8") if path.suffix == ".py" else ""
                waiting += _imports(ast.parse(code), package=package)
    return sorted(found)


def hash_of(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of files, in their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def package_sources() -> list[Path]:
    """Every source file of both packages, as far as they are installed beside each other."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imports(tree: ast.AST, *, package: str) -> Iterator[str]:
    """Dotted names of our packages that a module imports; `from a import b` gives a.b, which may be a module."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """Files that importing a dotted name reads, as far as they exist: packages on the way, the module, its YAML."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        files = (stem / "__init__.py", stem.with_suffix(".py"), stem.with_suffix(".yaml"))
        yield from (path for path in files if path.is_file())

"""Staleness: a result is up to date while the code, the settings and the inputs that it was made from are the same."""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hgisam.lazy import exports_of

parse = cache(ast.parse)  # a module is read for many steps and notebooks
PACKAGES = ("hgisam", "data_prep", "hgisam_scans", "hgisam_book")
ROOT = Path(__file__).parents[2]
ROOTS = (ROOT, ROOT / "book")  # folders that hold the packages


def fingerprint(*, settings: Any, inputs: Mapping[str, str], code: Sequence[Path]) -> str:
    """SHA-256 that changes with whatever a result depends on.

    Args:
        settings: As JSON.
        inputs: Name → hash of what is read.
        code: Source files, by content.
    """
    found = {"settings": settings, "inputs": dict(inputs), "code": hash_of(code)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def sources_of(code: str, roots: Sequence[Path] = ROOTS) -> list[Path]:
    """Source files of our packages that some Python code imports, directly or through others.

    Args:
        code: Python source, e.g. `from hgisam.training import fit`.
        roots: Folders that hold the packages.
    """
    names = list(_imports(parse(code), package=""))
    found: set[Path] = set()
    for name in names:  # which grows
        for path in _files_of(name, roots):
            if path not in found:
                found.add(path)
                root = next(root for root in reversed(roots) if path.is_relative_to(root))
                package = ".".join(path.relative_to(root).parent.parts)
                text = path.read_text(encoding="utf-8") if path.suffix == ".py" else ""
                names += {*_imports(parse(text), package=package)} - {*names}
    return sorted(found)


def hash_of(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of files, in their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def package_sources() -> list[Path]:
    """Every source file of our packages, as far as they are installed beside each other."""
    return [path for name in PACKAGES for root in ROOTS for path in sorted((root / name).rglob("*.py"))]


def _imports(tree: ast.Module, *, package: str) -> Iterator[str]:
    """Dotted names of our packages that a module imports; `from a import b` gives a.b, which may be a module.

    Imports for type checkers alone don't count.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        names: list[str] = []
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        waiting += ast.iter_child_nodes(node)
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def _files_of(name: str, roots: Sequence[Path]) -> Iterator[Path]:
    """Files read by importing a dotted name: packages on the way, the module, its YAML, the source of a lazy name."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        for stem in (root.joinpath(*parts[:end]) for root in roots):
            init = stem / "__init__.py"
            yield from (path for path in (init, stem.with_suffix(".py"), stem.with_suffix(".yaml")) if path.is_file())
            if end < len(parts) and init.is_file() and (source := exports_of(init).get(parts[end])):
                yield from _files_of(source, roots)

"""Lazy public names of a package, and a check of its extras.

`import hgisam` stays fast, and a subpackage names the extra that it lacks instead of failing deep inside.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hgisam.errors import MissingExtraError


def exports_of(init: str | Path) -> dict[str, str]:
    """Name → module of the lazy exports of a package: the imports under `if TYPE_CHECKING` in its `__init__.py`."""
    exports: dict[str, str] = {}
    for node in ast.parse(Path(init).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            imports = [statement for statement in node.body if isinstance(statement, ast.ImportFrom)]
            exports |= {alias.asname or alias.name: str(found.module) for found in imports for alias in found.names}
    return exports


def lazy_exports(package: str, init: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose names are imported at first use (PEP 562).

    Takes its `__name__` and its `__file__`, which lists the names under `if TYPE_CHECKING`, for type checkers too.
    """
    exports = exports_of(init)

    def get(name: str) -> Any:
        if name in exports:
            return getattr(import_module(exports[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted(exports), sorted(exports)


def require_extra(extra: str, *modules: str) -> None:
    """Raise a MissingExtraError unless the top-level modules of an extra, as in `hgisam[train]`, are installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        raise MissingExtraError(missing[0], extra)

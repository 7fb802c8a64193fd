"""Validation of notebook parameters: unknown names and wrong types are errors before the notebook starts.

papermill only logs an unknown parameter, so that a spelling mistake would run for hours with the default value. The
types are the annotations in the parameters cell of the notebook.
"""

import ast
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from hgisam.errors import InputError

INJECTED = "# Parameters"  # first line of the cell that papermill injects
KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def has_type(value: object, kind: str) -> bool:
    """True if a value has the annotated type. A bool is not a number; a type outside `KINDS` accepts every value."""
    return kind not in KINDS or (isinstance(value, KINDS[kind]) and (kind == "bool") == isinstance(value, bool))


def require_known(name: str, value: object, known: Collection[str], notebook: str) -> None:
    """Check that a notebook has a parameter of this name.

    Args:
        name: Name of the parameter.
        value: Its value, for the error message.
        known: Names of the notebook's parameters.
        notebook: Name of the notebook, for the error message.

    Raises:
        InputError: If it does not; lists the known parameters and suggests the closest one.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"Did you mean {near[0]}?" if near else "Leave it out."
        expected = f"one of {', '.join(known)}" if known else "none: it has no parameters cell"
        raise InputError(f"parameter of {notebook}", f"{name}={value}", expected, remedy)


def require_type(name: str, value: object, kind: str, notebook: str) -> None:
    """Check that a value has the type of its parameter.

    Raises:
        InputError: If it does not; names the type.
    """
    if not has_type(value, kind):
        remedy = "Give a value of that type; with -r, papermill passes text unchanged."
        raise InputError(f"parameter {name} of {notebook}", repr(value), kind, remedy)


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Check the parameters that papermill assigned; each notebook calls it first, with its `globals()`.

    Args:
        namespace: Holds the cell inputs `In` of IPython, and the annotations of the parameters cell.

    Raises:
        InputError: For the first parameter that the notebook does not declare, or that has another type.
    """
    declared = {name: kind.__name__ for name, kind in namespace.get("__annotations__", {}).items()}
    for source in namespace.get("In", ()):
        if not source.startswith(INJECTED):
            continue
        for statement in ast.parse(source).body:
            for target in statement.targets if isinstance(statement, ast.Assign) else ():
                name = ast.unparse(target)
                require_known(name, namespace.get(name), declared, "this notebook")
    for name, kind in declared.items():
        require_type(name, namespace.get(name), kind, "this notebook")

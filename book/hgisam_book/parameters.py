"""Parameters of a notebook, however it is run: unknown and mistyped ones are errors before anything starts.

papermill only logs an unknown parameter and assigns it all the same, so that a spelling mistake would run for hours
with the default. The types are those that the notebook's parameters cell is annotated with.
"""

import ast
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from hgisam.errors import InputError

INJECTED = "# Parameters"  # how papermill begins the cell of what it was given
KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def fits(value: object, kind: str) -> bool:
    """Whether a value is of an annotated type; True and False are no numbers, and what isn't in `KINDS` takes all."""
    return kind not in KINDS or (isinstance(value, KINDS[kind]) and (kind == "bool") == isinstance(value, bool))


def require_known(name: str, value: object, known: Collection[str], notebook: str) -> None:
    """Refuses a parameter that a notebook doesn't have.

    Args:
        name: Of the parameter.
        value: As it was given, for the message.
        known: Names of the notebook's parameters.
        notebook: For the message.

    Raises:
        InputError: Names those it has, and the one that may have been meant.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"Did you mean {near[0]}?" if near else "Leave it out."
        expected = f"one of {', '.join(known)}" if known else "none: it has no parameters cell"
        raise InputError(f"parameter of {notebook}", f"{name}={value}", expected, remedy)


def require_type(name: str, value: object, kind: str, notebook: str) -> None:
    """Refuses a value that is not of its parameter's type.

    Raises:
        InputError: Names the type.
    """
    if not fits(value, kind):
        remedy = "Give a value of that type; papermill takes text as it is with -r."
        raise InputError(f"parameter {name} of {notebook}", repr(value), kind, remedy)


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Checks what papermill assigned; called by each notebook with its `globals()` before it does anything.

    Args:
        namespace: Holds IPython's `In`, and the annotations of the parameters cell.

    Raises:
        InputError: For the first parameter that the notebook doesn't declare, or that is of another type.
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

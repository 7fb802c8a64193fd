"""YAML with unique keys, and overrides `section.key=value` of a profile, whose misspelt keys are named."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from hgisam.errors import InputError


def load_yaml(text: str, what: str) -> Any:
    """Content of a YAML 1.2 text, in plain dicts, lists and scalars.

    Args:
        text: The text.
        what: Its name, for the message.

    Raises:
        InputError: If it is not valid YAML, or a key is duplicated.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:  # all but the first: bad scalars
        remedy = "Fix it; quote what is meant as text."
        raise InputError(what, f"no valid YAML ({_reason(error)})", "YAML, each key once", remedy) from None


def _reason(error: Exception) -> str:
    """Problem and line of a YAML error."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    problem = str(error.problem).partition(" with value ")[0]  # a duplicate key's, which may be a whole section
    return f"{problem}, line {error.problem_mark.line + 1}"


def read_yaml(path: str | Path, what: str) -> Any:
    """Content of a YAML file; see `load_yaml`.

    Raises:
        InputError: If it is not a text in UTF-8, or not valid YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(what, f"unreadable ({error})", "a text in UTF-8", "Fix the file.") from None
    return load_yaml(text, what)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in place; the value is YAML.

    Raises:
        InputError: If it has another form, or there is no such key.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError("--set", repr(override), "section.key=value", "For example --set train.epochs=3.")
    spaced = re.sub(r":(?=[{\[])", ": ", text)  # YAML 1.2 wants a blank there, which one word of a shell can't hold
    put(values, key, load_yaml(spaced, f"--set {key}"))


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key in place; a list entry is named by its number (`model.depths.2`).

    The overrides of a training are keys with dots themselves: `study.trainings.unet.train.epochs` sets `train.epochs`.

    Raises:
        InputError: If there is no such key.
    """
    node: Any = values
    parts = key.split(".")
    while len(parts) > 1 and not (isinstance(node, dict) and ".".join(parts) in node):
        node = _child(node, parts.pop(0), key)
    last = ".".join(parts)
    _child(node, last, key)
    node[int(last) if isinstance(node, list) else last] = value


def _child(node: Any, part: str, key: str) -> Any:
    if isinstance(node, dict) and part in node:
        return node[part]
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    known = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    raise unknown_key(key, part, list(map(str, known)))


def unknown_key(key: str, part: str, known: Sequence[str]) -> InputError:
    """What to say of a key that isn't there: the nearest of those that are.

    Args:
        key: The whole of it.
        part: What is unknown of it.
        known: What could stand in its place.
    """
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.4)
    remedy = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known) or 'nothing'}."
    return InputError(f"profile key {key}", "an unknown key", "a key of the profile", remedy)


def first_error(error: ValidationError) -> Any:
    """The first thing that pydantic found; a misspelt key before the gap that it leaves."""
    return min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")

"""Keys of YAML files: each once, and misspelt ones named; dotted ones, `train.augment.flip`, set in a profile."""

import contextlib
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hgisam.errors import InputError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, what: str) -> Any:
    """Content of a YAML text.

    Args:
        text: The text.
        what: Its name, for the message.

    Raises:
        InputError: If it is no YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        remedy = "Mend it; quote what is meant as text."
        raise InputError(what, f"no valid YAML ({error})", "YAML, each key once", remedy) from None


def read_yaml(path: Path, what: str) -> Any:
    """Content of a YAML file; see `load_yaml`.

    Raises:
        InputError: If it is no text, or no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(what, f"unreadable ({error})", "a text in UTF-8", "Mend the file.") from None
    return load_yaml(text, what)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one `a.b=c` in place, the value in YAML.

    Raises:
        InputError: If it is none, or there is no such key.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError("--set", repr(override), "section.key=value", "For example --set train.epochs=3.")
    value = load_yaml(text, f"--set {key}")
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        with contextlib.suppress(ValueError):
            value = float(value)
    put(values, key, value)


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
    known = (
        list(node) if isinstance(node, dict) else [str(i) for i in range(len(node))] if isinstance(node, list) else []
    )
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

"""JSON files and tables of a run: read with one clear error, written whole or not at all."""

import json
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ValidationError

from hgisam.errors import InputError
from hgisam.runs.folders import whole_file

Content = TypeVar("Content", bound=BaseModel)


def check_content(model: type[Content], content: Any, what: str, expected: str, remedy: str) -> Content:
    """Validates the content of a JSON file.

    Args:
        model: What its readers rely on.
        content: Of the file.
        what, expected, remedy: As in `InputError`.

    Raises:
        InputError: Names the first thing that is absent or of another type.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        got = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise InputError(what, got, expected, remedy) from None


def read_json(path: str | Path) -> Any:
    """Content of a JSON file.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a JSON file of a run", "Make the run again.") from None


def listed(path: str | Path, key: str, **having: Any) -> list[str]:
    """The names that a JSON file lists under a key, and its own; none where it is absent, broken or lacks `having`."""
    try:
        content = read_json(path)
        return [Path(path).name, *content[key]] if all(content[name] == value for name, value in having.items()) else []
    except (InputError, KeyError, TypeError):
        return []


def read_table(path: str | Path) -> pd.DataFrame:
    """A parquet table of a run.

    Raises:
        InputError: If it is absent or broken.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"unreadable ({error})", "a table of a run", "Make the step again.") from None


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON, whole or not at all.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "dice.json"
        >>> write_json(path, {"dice": 0.5})
        >>> read_json(path)
        {'dice': 0.5}
    """
    with whole_file(Path(path)) as scratch:
        scratch.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")

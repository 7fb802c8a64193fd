"""The data contract, `datasets.yaml`: what each data set is, what its owner asks for, how to get and prepare it."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hgisam.errors import InputError

SHIPPED = Path(__file__).with_name("datasets.yaml")
Text = Annotated[str, Field(min_length=1)]


class Dataset(BaseModel):
    """One of them; `name` is that of its reader, `get` and `prepare` are lines to type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    title: Text
    holds: Text
    version: Text
    size: Text
    licence: Text
    sign: Text | None
    url: Text | None
    files: Annotated[dict[Text, Text], Field(min_length=1)]
    checksums: Text
    get: Annotated[list[Text], Field(min_length=1)]
    prepare: Annotated[list[Text], Field(min_length=1)]
    cite: Text | None
    unverified: Text | None


def load_datasets(path: Path = SHIPPED) -> list[Dataset]:
    """Reads the contract.

    Raises:
        InputError: If it is no YAML list of data sets, or two have one name.
    """
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = TypeAdapter(list[Dataset]).validate_python(content)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        first = " ".join(str(error).split())[:120]
        raise InputError(str(path), f"unreadable ({first})", "a list of data sets", "Mend it.") from None
    names = [dataset.name for dataset in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(str(path), f"{', '.join(sorted(twice))} twice", "each name once", "Mend it.")
    return found

"""The catalogue of data sets, `datasets.yaml`: content, licence, download and preparation of each."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hgisam.errors import InputError

CATALOGUE = Path(__file__).with_name("datasets.yaml")
Text = Annotated[str, Field(min_length=1)]


class Dataset(BaseModel):
    """One data set; `name` is that of its reader, `get` and `prepare` are shell commands."""

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


def load_datasets(path: str | Path = CATALOGUE) -> list[Dataset]:
    """Reads the catalogue of data sets.

    Raises:
        InputError: If the file is not a YAML list of data sets, or two have the same name.
    """
    try:
        content: Any = YAML(typ="safe", pure=True).load(Path(path).read_text(encoding="utf-8"))
        found = TypeAdapter(list[Dataset]).validate_python(content)
    except (OSError, YAMLError, ValidationError) as error:
        first = " ".join(str(error).split())[:120]
        raise InputError(str(path), f"unreadable ({first})", "a list of data sets", "Fix the file.") from None
    names = [dataset.name for dataset in found]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(str(path), f"{', '.join(sorted(repeated))} twice", "each name once", "Fix the file.")
    return found

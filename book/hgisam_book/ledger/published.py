"""Published numbers of the systems of the field, and what has to agree before two of them may be compared."""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from hgisam.config.overrides import read_yaml
from hgisam.runs.files import check_content

SHIPPED = Path(__file__).with_suffix(".yaml")
Text = Annotated[str, Field(min_length=1)]


class PublishedNumber(BaseModel):
    """One result of one publication.

    Attributes:
        system: The system, in the words of the book.
        source: Citation key in `book/references.bib`.
        label: What its training data are labelled with.
        result: The numbers, with their metric.
        data: What it was tested on.
        average: Of what a Dice is a mean, or "one count of all".
        misses: Whether a lesion that was not found counts as a Dice of 0.
        thresholds: What chose them.
        remark: What a reader would compare wrongly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: Text
    source: Text
    label: Literal["exam", "slice", "box", "ball", "mask"]
    result: Text
    data: Text
    average: Text
    misses: Literal["counted", "left out", "not stated"]
    thresholds: Text
    remark: Text


class PublishedNumbers(BaseModel):
    """Content of `published.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: tuple[PublishedNumber, ...]


def read_published(path: str | Path = SHIPPED) -> tuple[PublishedNumber, ...]:
    """The published numbers, from the fewest labels to masks.

    Raises:
        InputError: If the file cannot be read, or an entry lacks a key.
    """
    what = f"published numbers {path}"
    return check_content(PublishedNumbers, read_yaml(path, what), what, "its keys", "Correct the file.").numbers


def published_table(numbers: tuple[PublishedNumber, ...]) -> pd.DataFrame:
    """A row per number; the remarks are not in it."""
    columns = ["label", "result", "data", "average", "misses", "thresholds"]
    return pd.DataFrame([one.model_dump() for one in numbers], index=[one.system for one in numbers])[columns]


def dice_from(sensitivity: float, precision: float) -> float:
    """Dice of one count of pixels with this sensitivity and precision.

    Example:
        >>> round(dice_from(0.5472, 0.6188), 4)
        0.5808
    """
    return 2 * sensitivity * precision / (sensitivity + precision)

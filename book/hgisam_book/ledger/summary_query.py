"""What a run's `summary.json` says: on which data it was measured, and single values by their names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hgisam.errors import InputError
from hgisam.runs.files import read_json

COMPARED = "dice_slice"  # the metric of a run's paired comparisons
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Summary = Mapping[str, Any]


class Measured(BaseModel):
    """A value with its interval; None where nothing could be measured."""

    mean: Finite | None
    ci95: tuple[Finite, Finite] | None


class Compared(BaseModel):
    """A paired comparison of two methods, as far as values are asked of it."""

    a: str
    b: str
    metric: str
    difference: Finite | None
    ci95: tuple[Finite, Finite] | None


Comparisons = TypeAdapter(list[Compared])


def read_summary(run: Path) -> dict[str, Any]:
    """What a finished run is known by.

    Raises:
        InputError: If it has none, or one that doesn't say on which data and with which profile.
    """
    path = run / "summary.json"
    if not path.is_file():
        raise InputError(f"run {run}", "no summary.json in it", "a run with results", "Run its notebooks first.")
    summary = read_json(path)
    keys = ("profile", "dataset", "source")
    if not isinstance(summary, dict) or not all(isinstance(summary.get(key), str) for key in keys):
        raise InputError(str(path), "another content", f"the keys {', '.join(keys)} and figures", "Make it again.")
    return summary


def place_of(summary: Summary) -> str:
    """On what a run was measured: "CT-ICH" only for the real studies, "phantom", or the name of other data."""
    dataset, source = summary["dataset"], summary["source"]
    if "phantom" in f"{dataset} {source}".lower():
        return "phantom"
    return "CT-ICH" if dataset == source == "ct-ich" else f"{dataset} of {source}"


def find(summary: Summary, query: str) -> Measured | None:
    """The value that a query names; None where the run doesn't have it.

    Args:
        summary: Of a run.
        query: Keys joined by dots. `comparisons.a.b` is the paired difference a − b, in whichever order it was stored.

    Raises:
        InputError: If there is something else than a value with its interval.
    """
    section, *keys = query.split(".")
    node = summary.get(section)
    try:
        if section == "comparisons" and len(keys) == 2:
            measured = _difference(Comparisons.validate_python([] if node is None else node), *keys)
        else:
            for key in keys:
                node = node.get(key) if isinstance(node, Mapping) else None
            measured = None if node is None else Measured.model_validate(node)
    except ValidationError:
        raise InputError(f"{query} of a summary", repr(node)[:80], "mean and ci95", "Make the run again.") from None
    return None if measured is None or measured.mean is None else measured


def _difference(comparisons: Sequence[Compared], a: str, b: str) -> Measured | None:
    for stored in comparisons:
        if stored.metric == COMPARED and {stored.a, stored.b} == {a, b}:
            if stored.a == a or stored.difference is None:
                return Measured(mean=stored.difference, ci95=stored.ci95)
            ends = stored.ci95 and (-stored.ci95[1], -stored.ci95[0])
            return Measured(mean=-stored.difference, ci95=ends)
    return None

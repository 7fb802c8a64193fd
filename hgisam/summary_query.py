"""What a run's `summary.json` says: on which data it was measured, and single values by their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from hgisam.errors import InputError
from hgisam.run import read_json

COMPARED = "dice_slice"  # the metric of a run's paired comparisons
Finite = Annotated[float, Field(allow_inf_nan=False)]
Summary = Mapping[str, Any]


class Measured(BaseModel):
    """A value with its interval; None where nothing could be measured."""

    mean: Finite | None
    ci95: tuple[Finite, Finite] | None


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
    if section == "comparisons" and len(keys) == 2:
        node, keys = _difference(node or [], *keys), []
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    if node is None:
        return None
    try:
        measured = Measured.model_validate(node)
    except ValidationError:
        raise InputError(f"{query} of a summary", repr(node)[:80], "mean and ci95", "Make the run again.") from None
    return measured if measured.mean is not None else None


def _difference(comparisons: list[dict[str, Any]], a: str, b: str) -> dict[str, Any] | None:
    for stored in comparisons:
        if stored["metric"] == COMPARED and {stored["a"], stored["b"]} == {a, b}:
            sign, ends = (1 if stored["a"] == a else -1), stored["ci95"]
            mean = None if stored["difference"] is None else sign * stored["difference"]
            return {"mean": mean, "ci95": ends and sorted(sign * end for end in ends)}
    return None

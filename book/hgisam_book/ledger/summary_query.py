"""Queries on the `summary.json` of a run: its data, and single values with their confidence intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from hgisam.errors import InputError
from hgisam.runs.files import read_json

COMPARED = "dice_slice"  # metric of the paired comparisons
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Summary = Mapping[str, Any]


class Measured(BaseModel):
    """Estimate with its 95 % confidence interval; None where nothing could be measured."""

    mean: Finite | None
    ci95: tuple[Finite, Finite] | None


class Compared(BaseModel):
    """Paired comparison of two methods, with the keys that queries use."""

    a: str
    b: str
    metric: str
    difference: Finite | None
    ci95: tuple[Finite, Finite] | None


Comparisons = TypeAdapter(list[Compared])


def read_summary(run: str | Path) -> dict[str, Any]:
    """Read the `summary.json` of a finished run.

    Args:
        run: Folder of the run, e.g. "runs/laptop".

    Raises:
        InputError: If there is none, or it lacks the profile, the data set or its source.
    """
    path = Path(run) / "summary.json"
    if not path.is_file():
        raise InputError(f"run {run}", "no summary.json in it", "a run with results", "Run its notebooks first.")
    summary = read_json(path)
    keys = ("profile", "dataset", "source")
    if not isinstance(summary, dict) or not all(isinstance(summary.get(key), str) for key in keys):
        raise InputError(str(path), "other content", f"the keys {', '.join(keys)} and metrics", "Rerun its notebooks.")
    return summary


def data_of(summary: Summary) -> str:
    """Test data of a run: "CT-ICH" for the real studies only, "phantom", or the name of other data."""
    dataset, source = summary["dataset"], summary["source"]
    if "phantom" in f"{dataset} {source}".lower():
        return "phantom"
    return "CT-ICH" if dataset == source == "ct-ich" else f"{dataset} of {source}"


def find_value(summary: Summary, query: str) -> Measured | None:
    """Value at a query; None if the run lacks it.

    Args:
        summary: Content of the run's `summary.json`.
        query: Keys joined by dots. `comparisons.a.b` is the paired difference a − b, in either order of storage.

    Raises:
        InputError: If the query does not lead to a value with an interval.
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
        raise InputError(f"{query} of a summary", repr(node)[:80], "mean and ci95", "Rerun its notebooks.") from None
    return None if measured is None or measured.mean is None else measured


def _difference(comparisons: Sequence[Compared], a: str, b: str) -> Measured | None:
    for stored in comparisons:
        if stored.metric == COMPARED and {stored.a, stored.b} == {a, b}:
            if stored.a == a or stored.difference is None:
                return Measured(mean=stored.difference, ci95=stored.ci95)
            ends = stored.ci95 and (-stored.ci95[1], -stored.ci95[0])
            return Measured(mean=-stored.difference, ci95=ends)
    return None

"""The series of a study that is meant for this job, chosen with a reason.

What is told of a series are its number and our own words.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from hgisam.errors import InputError
from hgisam_scans.candidates import Candidate
from hgisam_scans.series_traits import TYPICAL_MM


class Choice(NamedTuple):
    """A candidate chosen among those of its study.

    Attributes:
        chosen: The candidate.
        reason: Why, in a sentence for the report.
        others: Name of each other series, and what speaks against it.
        skipped: (file, reason) of files beside it that are no part of a series.
    """

    chosen: Candidate
    reason: str
    others: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...] = ()


def choose_series(candidates: Sequence[Candidate], series: str | int | None = None) -> list[Choice]:
    """Choose the series to segment among those of one study.

    Args:
        candidates: Of one study.
        series: None for the best, "all", a number, or a SeriesInstanceUID.

    Raises:
        InputError: If no series has that number or UID.
    """
    ranked = sorted(candidates, key=lambda each: each.rank)
    series = None if series is None else str(series)
    if series == "all":
        return [Choice(each, "all series were requested", ()) for each in sorted(ranked, key=lambda each: each.number)]
    matches = [each for each in ranked if series in (None, each.uid, str(each.number))]
    if not matches:
        listed = "; ".join(f"{each.name}{_against(each)}" for each in ranked)
        raise InputError("--series", series, f"one of {listed}, or all", "Give its number, or its SeriesInstanceUID.")
    best = matches[0]
    others = tuple((each.name, ", ".join(each.traits) or _lesser(best, each)) for each in ranked if each is not best)
    if series is not None:
        return [Choice(best, "its number or UID was given", others)]
    if len(ranked) == 1:
        return [Choice(best, f"the only series{_against(best)}", ())]
    praise = "axial, no contrast medium, soft kernel" if not best.traits else f"least against it{_against(best)}"
    return [Choice(best, praise, others)]


def by_study(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The candidates of each study, numbered within it where numbers repeat."""
    studies: dict[str, list[Candidate]] = defaultdict(list)
    for each in candidates:
        studies[each.group].append(each)
    numbered = []
    for members in studies.values():
        unique = len({each.number for each in members}) == len(members)
        numbered.append(
            members if unique else [replace(each, number=index) for index, each in enumerate(members, start=1)]
        )  # fmt: skip
    return numbered


def _against(candidate: Candidate) -> str:
    return f" ({', '.join(candidate.traits)})" if candidate.traits else ""


def _lesser(best: Candidate, other: Candidate) -> str:
    """Why the other of two series without a trait was not chosen."""
    nearer = abs(best.slice_mm - TYPICAL_MM) < abs(other.slice_mm - TYPICAL_MM)
    return f"farther from {TYPICAL_MM:g} mm between slices" if nearer else "no more slices than the chosen one"

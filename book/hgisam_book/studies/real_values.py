"""Values of head CT on real heads, and the verdict on those of phantoms beside them.

The values are facts about scans, in `real_heads.yaml` with their sources; no scan is part of the project.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from hgisam.config.overrides import read_yaml
from hgisam.errors import InputError
from hgisam.runs.files import check_content
from hgisam_book.studies.realism import UNITS

SHIPPED = Path(__file__).with_name("real_heads.yaml")
PITCH_TOLERANCE = 0.25  # relative; noise and rim depend on the grid
WITHIN, OUTSIDE, NOT_COMPARABLE, NOT_MEASURED = "within", "outside", "not comparable", "not measured"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where a real value was measured: a name, the origin in words, the licence as stated there."""

    name: str
    origin: str
    licence: str


class Target(_Part):
    """A value of real heads, and the range in which that of a phantom should be; either end may be open."""

    value: float
    low: float = -np.inf
    high: float = np.inf
    source: str
    because: str


class Rim(_Part):
    """Profiles of real rims: source → HU at `from_mm`; the first is the reference of the tolerance."""

    from_mm: list[int]
    tolerance: Annotated[float, Field(gt=0)]
    profiles: dict[str, list[float]]


class RealHeads(_Part):
    """Content of `real_heads.yaml`."""

    pixel_mm: Annotated[float, Field(gt=0)]
    sources: dict[str, Source]
    rim: Rim
    statistics: dict[str, Target]

    def targets(self) -> dict[str, Target]:
        """Target of each statistic, the millimetres of the rim first."""
        source, reference = next(iter(self.rim.profiles.items()))
        tolerance = self.rim.tolerance
        rim = {
            f"rim_{mm}": Target(
                value=hu, low=hu - tolerance, high=hu + tolerance, source=source, because=f"within {tolerance:g} HU"
            )
            for mm, hu in zip(self.rim.from_mm, reference, strict=True)
        }
        return rim | self.statistics


def read_real_heads(path: str | Path = SHIPPED) -> RealHeads:
    """The values of real heads.

    Raises:
        InputError: If the file is not valid, or names a statistic or a source that does not exist.
    """
    what, remedy = f"values of real heads {path}", "Correct the file."
    real = check_content(RealHeads, read_yaml(path, what), what, "the keys of real_heads.yaml", remedy)
    if uneven := [name for name, profile in real.rim.profiles.items() if len(profile) != len(real.rim.from_mm)]:
        raise InputError(what, f"{uneven[0]}: another length", f"{len(real.rim.from_mm)} values of the rim", remedy)
    if unknown := real.targets().keys() - UNITS.keys():
        raise InputError(what, sorted(unknown)[0], f"one of {', '.join(UNITS)}", remedy)
    used = real.rim.profiles.keys() | {target.source for target in real.statistics.values()}
    if unknown := used - real.sources.keys():
        raise InputError(what, sorted(unknown)[0], f"one of the sources {', '.join(real.sources)}", remedy)
    return real


def compare_with_real(statistics: pd.DataFrame, pixel_mm: float, real: RealHeads) -> pd.DataFrame:
    """Statistics beside their values on real heads, one row per statistic that has one.

    Args:
        statistics: From `summarize`.
        pixel_mm: Pixel pitch of the set.
        real: From `read_real_heads`.

    Returns:
        Columns unit, mean, low, high, real, target_low, target_high, source, because and verdict: "within" or "outside"
        of the target range, "not measured" without a value, "not comparable" if the pitch differs from that of the real
        values by more than `PITCH_TOLERANCE`.
    """
    comparable = abs(pixel_mm / real.pixel_mm - 1) <= PITCH_TOLERANCE
    targets = real.targets()
    names = [name for name in statistics.index if name in targets]
    beside: dict[str, dict[str, Any]] = {
        name: {
            "real": targets[name].value,
            "target_low": targets[name].low,
            "target_high": targets[name].high,
            "source": targets[name].source,
            "because": targets[name].because,
            "verdict": _verdict(statistics.loc[name, "mean"], targets[name], comparable),
        }
        for name in names
    }
    found = statistics.loc[names, ["unit", "mean", "low", "high"]]
    return found.join(pd.DataFrame.from_dict(beside, orient="index"))


def _verdict(value: float, target: Target, comparable: bool) -> str:
    if np.isnan(value):
        return NOT_MEASURED
    if not comparable:
        return NOT_COMPARABLE
    return WITHIN if target.low <= value <= target.high else OUTSIDE

"""An interval for the volume of a bleed: split conformal prediction, calibrated on patients whose truth is known.

Errors of a volume grow with it, so they are ratios: of the true to the predicted volume, both with `OFFSET_ML` added.
Patients in whom nothing was found have a bound of their own, since there is nothing to multiply.

Source: Vovk, Gammerman, Shafer, Algorithmic learning in a random world, 2005 (conformal prediction, one calibration per
category); Lei et al., Distribution-free predictive inference for regression, JASA 2018 (the split).
"""

import math
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

OFFSET_ML = 1.0
LEVEL = 0.9


class Interval(BaseModel):
    """Calibrated bounds of the true volume.

    Attributes:
        level: Share of patients like those of the calibration whose true volume is inside.
        low_ratio, high_ratio: Bounds of (true + 1 ml) / (predicted + 1 ml) where something was found; None for too few
            patients.
        found: Patients behind these.
        missed_ml: Upper bound of the true volume where nothing was found; None for too few patients.
        not_found: Patients behind it.
        covered: Share of left-out patients whose true volume was inside, by leaving out one patient at a time.
    """

    level: float
    low_ratio: float | None
    high_ratio: float | None
    found: int
    missed_ml: float | None
    not_found: int
    covered: float | None

    def of(self, ml: float) -> tuple[float, float] | None:
        """Interval in ml of the true volume for a predicted one; None if too few patients stand behind it.

        Example:
            >>> Interval(level=0.9, low_ratio=0.5, high_ratio=2, found=50, missed_ml=3, not_found=20, covered=0.9).of(9)
            (4.0, 19.0)
        """
        if ml == 0:
            return None if self.missed_ml is None else (0.0, self.missed_ml)
        if self.low_ratio is None or self.high_ratio is None:
            return None
        return max(0.0, (ml + OFFSET_ML) * self.low_ratio - OFFSET_ML), (ml + OFFSET_ML) * self.high_ratio - OFFSET_ML


def calibrate_interval(predicted_ml: Sequence[float], true_ml: Sequence[float], level: float = LEVEL) -> Interval:
    """Calibrate the interval on predicted and true volumes [patient].

    Example:
        >>> volumes = [float(ml) for ml in range(1, 100)]
        >>> calibrate_interval(volumes, volumes).of(50.0)
        (50.0, 50.0)
    """
    predicted, true = np.asarray(predicted_ml, float), np.asarray(true_ml, float)
    fitted = _fit(predicted, true, level)
    inside = []
    for index in range(len(true)):
        others = np.arange(len(true)) != index
        if (bounds := _fit(predicted[others], true[others], level).of(float(predicted[index]))) is not None:
            inside.append(bounds[0] - 1e-9 <= true[index] <= bounds[1] + 1e-9)
    return fitted.model_copy(update={"covered": float(np.mean(inside)) if inside else None})


def _fit(predicted: np.ndarray, true: np.ndarray, level: float) -> Interval:
    found = predicted > 0
    ratios = (true[found] + OFFSET_ML) / (predicted[found] + OFFSET_ML)
    tail = (1 - level) / 2
    high, low = _bound(ratios, 1 - tail), _bound(1 / ratios, 1 - tail)
    return Interval(
        level=level, low_ratio=None if low is None else 1 / low, high_ratio=high, found=int(found.sum()),
        missed_ml=_bound(true[~found], level), not_found=int((~found).sum()), covered=None,
    )  # fmt: skip


def _bound(values: np.ndarray, level: float) -> float | None:
    """The conformal quantile: the smallest value that, with one more patient, bounds a share `level`; None if none."""
    rank = math.ceil((len(values) + 1) * level - 1e-9)
    return float(np.sort(values)[rank - 1]) if 0 < rank <= len(values) else None

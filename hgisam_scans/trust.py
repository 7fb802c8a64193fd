"""Is a scan like the data that the network was trained on? A few measurements of it, against their range there.

A network answers on anything. Its volume means nothing for a chest, a head with contrast medium, or a scanner whose
noise and rim of the brain it never saw. Then a person should hear "not trusted", and no number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from data_prep.hounsfield import unlike_hu
from data_prep.volume import Volume

RIM_MM = (1.0, 4.0)  # reach inwards of the brain's rim, where bone shines into the tissue
CORE_MM = 12.0  # depth from which tissue is free of it
INSIDE_MM = 6.0  # depth from which no bone or sinus is counted as contrast medium
ENHANCED_HU = (90.0, 300.0)
MARGIN = 0.25  # of the range in the reference patients, added at both ends
BRAIN_ML = (300.0, 2500.0)  # without a reference: from a part of a child's head to more than any
FEW_PIXELS = 200


@dataclass(frozen=True)
class Measurement:
    """A measurement of a scan that training data have too: its name for readers, unit, and what stands behind it."""

    name: str
    unit: str
    hint: str


MEASUREMENTS = {
    "noise_hu": Measurement("noise", "HU", "another dose, kernel or slice thickness"),
    "rim_hu": Measurement("rim of the brain above its centre", "HU", "beam hardening and blur at the skull"),
    "brain_hu": Measurement("density of the brain", "HU", "calibration, contrast medium or a wrong intercept"),
    "enhanced_percent": Measurement("dense spots inside the brain", "%", "contrast medium, metal or calcification"),
    "slice_mm": Measurement("distance of slices", "mm", "thin or thick slices"),
    "pixel_mm": Measurement("pixels", "mm", "coarse pixels"),
    "brain_ml": Measurement("brain", "ml", "not a whole head, or no head"),
    "top_percent": Measurement("brain in the highest slice, of the largest section", "%", "the vertex is cut off"),
    "bottom_percent": Measurement("brain in the lowest slice, of the largest section", "%", "the base is cut off"),
    "outside_percent": Measurement("brain outside of the network's field of view", "%", "a large or displaced head"),
}


def measure_scan(
    volume: Volume,
    hu: npt.NDArray[np.int16],
    brain: npt.NDArray[np.uint8],
    rows: pd.DataFrame,
    statistics: Mapping[str, Any],
) -> dict[str, float]:
    """The `MEASUREMENTS` of a scan; NaN where there is too little brain for one.

    Args:
        volume: The scan as read.
        hu, brain: [slice, px, px] on the prepared grid.
        rows, statistics: Of `data_prep.study.prepare_volume`.
    """
    pixel_mm, slice_mm = float(rows["pixel_mm"].iloc[0]), rows["slice_mm"].to_numpy()
    inside = brain > 0
    depth_mm = np.stack([ndimage.distance_transform_edt(mask) for mask in inside]) * pixel_mm
    areas = inside.sum(axis=(1, 2))
    largest = max(int(areas.max()), 1)
    values = hu.astype(np.float32)
    core, rim = values[depth_mm > CORE_MM], values[(depth_mm > RIM_MM[0]) & (depth_mm <= RIM_MM[1])]
    deep = values[depth_mm > INSIDE_MM]
    enhanced = (deep > ENHANCED_HU[0]) & (deep < ENHANCED_HU[1])
    return {
        "noise_hu": _noise(values, depth_mm > INSIDE_MM),
        "rim_hu": _median(rim[(rim > -20) & (rim < 120)]) - _median(core),
        "brain_hu": _median(values[inside]),
        "enhanced_percent": 100 * float(enhanced.mean()) if len(deep) >= FEW_PIXELS else float("nan"),
        "slice_mm": float(np.median(slice_mm)),
        "pixel_mm": (volume.row_mm + volume.col_mm) / 2,
        "brain_ml": float(areas @ slice_mm) * pixel_mm**2 / 1000,
        "top_percent": 100 * float(areas[-1]) / largest,
        "bottom_percent": 100 * float(areas[0]) / largest,
        "outside_percent": 100 * float(statistics["brain_outside_field"]),
    }


def _median(values: npt.NDArray[np.float32]) -> float:
    return float(np.median(values)) if len(values) >= FEW_PIXELS else float("nan")


def _noise(values: npt.NDArray[np.float32], deep: npt.NDArray[np.bool_]) -> float:
    """Standard deviation of the noise in HU, by second differences along rows, which tissue hardly has."""
    differences = (values[:, :, :-2] - 2 * values[:, :, 1:-1] + values[:, :, 2:]) / np.sqrt(6)
    return 1.4826 * _median(np.abs(differences[deep[:, :, 1:-1]]))


def reference_ranges(measured: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Range of each measurement over reference patients, with `MARGIN` at both ends; without those that all lack."""
    ranges = {}
    for name in MEASUREMENTS:
        values = np.array([each[name] for each in measured])
        if np.isfinite(values).any():
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            spread = max((high - low) * MARGIN, 1.0 if MEASUREMENTS[name].unit == "%" else 0.0)
            least = -np.inf if low < 0 else 0.0  # what is never negative has no bound below 0
            lowest = 0.0 if name == "pixel_mm" else max(least, low - spread)  # finer pixels lose nothing
            ranges[name] = float(np.floor(lowest * 1e4) / 1e4), float(np.ceil((high + spread) * 1e4) / 1e4)
    return ranges


def doubts(
    volume: Volume, measured: Mapping[str, float], reference: Mapping[str, tuple[float, float]] | None
) -> list[str]:
    """Why the result on this scan cannot be trusted, one sentence each; empty if it is like the reference.

    Args:
        volume: The scan as read.
        measured: From `measure_scan`.
        reference: From `reference_ranges`; None if the network has none.
    """
    found = [] if (reason := unlike_hu(volume.hu)) is None else [reason]
    if measured["brain_ml"] == 0:
        return [*found, "no brain was found: is it a head?"]
    for name, (low, high) in (reference or {"brain_ml": BRAIN_ML}).items():
        about, value = MEASUREMENTS[name], measured[name]
        if not low <= value <= high:  # NaN too
            seen = f"{_short(value)} {about.unit}" if np.isfinite(value) else "not measurable"
            usual = f"{_short(low)} to {_short(high)} {about.unit}"
            whose = "data like those of the training" if reference else "heads"
            found.append(f"{about.name}: {seen}, in {whose} {usual} ({about.hint})")
    return found


def _short(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

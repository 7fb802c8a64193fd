"""Realism of phantoms: statistics of head CT that a network sees.

All functions take prepared slices: `hu`, `brain` and `blood` as [slice, row, col], bool or 0 outside for the masks, and
`pixel_mm`, the pixel pitch. Statistics per slice are NaN where a slice has too few pixels for them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.evaluation.masks import AIR_HU, BONE_HU, HU_GRID, dice_curve, smoothed_hu
from hgisam_book.studies.method_comparison import dice_at_best_threshold

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SKULL_HU = 180  # bone is above it
RIM_MM = np.arange(1, 17)  # edges of the bins of distance from bone
SPREAD_MM = 2  # lower edge of the bin whose spread between slices is a statistic
CORE_MM, CORE_PERCENTILES = 12, (5, 50, 95)
NOISE_MM, NOISE_SIGMA_PX = 8, 1.5
TISSUE_HU = (0, 100)  # soft tissue in which noise is measured
NOISE_RANGE_HU = (0, 80)
NO_NOISE_HU = 1e-6  # rounding of the filter
BLOOD_MARGIN_PX = 3
MIN_BRAIN_CM2 = 50.0
MIN_PIXELS = {"rim": 20, "core": 500, "noise": 800, "bleed": 20}

UNITS = {
    **{f"rim_{mm}": "HU" for mm in RIM_MM[:-1].tolist()},
    "rim_spread": "HU",
    "noise": "HU",
    "grain": "",
    **{f"core_{percent}": "HU" for percent in CORE_PERCENTILES},
    "blood_mean": "HU",
    "blood_sd": "HU",
    "blood_area": "cm²",
    "threshold": "Dice",
    "threshold_smoothed": "Dice",
}
NAMES = {
    **{f"rim_{mm}": f"rim, {mm}-{mm + 1} mm from bone" for mm in RIM_MM[:-1].tolist()},
    "rim_spread": f"rim, {SPREAD_MM}-{SPREAD_MM + 1} mm, spread between slices",
    "noise": "high-frequency noise",
    "grain": "grain: correlation of neighboring pixels",
    **{f"core_{percent}": f"core of the brain, percentile {percent}" for percent in CORE_PERCENTILES},
    "blood_mean": "bleed, mean",
    "blood_sd": "bleed, standard deviation",
    "blood_area": "bleed, area",
    "threshold": "one HU threshold",
    "threshold_smoothed": "one HU threshold, smoothed",
}


def rim_profile(hu: Array, brain: Array, blood: Array, pixel_mm: float) -> Floats:
    """Mean HU by distance from bone in the plane, per slice: [slice, 15] for 1-2, 2-3 … 15-16 mm.

    Counts pixels of the brain mask that are neither bone nor within `BLOOD_MARGIN_PX` of blood, in slices with at
    least `MIN_BRAIN_CM2` of brain. The brain mask reaches up to the bone, so the first millimetres hold partial volume,
    dura and fluid.
    """
    profiles = np.full((len(hu), len(RIM_MM) - 1), np.nan)
    for profile, values, inside, bleed in zip(profiles, hu, brain > 0, blood > 0, strict=True):
        if not _large(inside, pixel_mm):
            continue
        bin_of = np.digitize(_bone_distance(values, pixel_mm), RIM_MM) - 1
        counted = inside & (values <= SKULL_HU) & ~binary_dilation(bleed, iterations=BLOOD_MARGIN_PX)
        for number in range(len(profile)):
            pixels = values[counted & (bin_of == number)]
            if len(pixels) >= MIN_PIXELS["rim"]:
                profile[number] = pixels.mean()
    return profiles


def core_percentiles(hu: Array, brain: Array, blood: Array, pixel_mm: float) -> Floats:
    """Percentiles 5, 50 and 95 of HU more than `CORE_MM` from bone, without blood, per slice: [slice, 3]."""
    found = np.full((len(hu), len(CORE_PERCENTILES)), np.nan)
    for row, values, inside, bleed in zip(found, hu, brain > 0, blood > 0, strict=True):
        if _large(inside, pixel_mm):
            core = values[inside & ~bleed & (_bone_distance(values, pixel_mm) > CORE_MM)]
            if len(core) >= MIN_PIXELS["core"]:
                row[:] = np.percentile(core, CORE_PERCENTILES)
    return found


def noise_and_grain(hu: Array, brain: Array, blood: Array, pixel_mm: float) -> Floats:
    """High-frequency noise in HU and its grain, per slice: [slice, 2].

    Noise is the standard deviation of HU minus HU smoothed by a Gaussian of `NOISE_SIGMA_PX`, more than `NOISE_MM`
    inside soft tissue. Grain is the correlation of that difference between neighbors in a row: white noise has about
    -0.1, because its mean was subtracted, a smooth reconstruction kernel much more.
    """
    found = np.full((len(hu), 2), np.nan)
    for row, values, inside, bleed in zip(found, hu, brain > 0, blood > 0, strict=True):
        tissue = inside & ~bleed & (values > TISSUE_HU[0]) & (values < TISSUE_HU[1])
        core = distance_transform_edt(tissue) * pixel_mm > NOISE_MM
        if core.sum() < MIN_PIXELS["noise"]:
            continue
        clipped = np.clip(values, *NOISE_RANGE_HU).astype(np.float64)
        fine = clipped - gaussian_filter(clipped, NOISE_SIGMA_PX)
        left, right = (fine[:, part][core[:, 1:] & core[:, :-1]] for part in (slice(None, -1), slice(1, None)))
        spread = fine[core].std()
        row[:] = spread, np.corrcoef(left, right)[0, 1] if spread > NO_NOISE_HU else np.nan
    return found


def bleed_statistics(hu: Array, blood: Array, pixel_mm: float) -> Floats:
    """Mean and standard deviation in HU, and area in cm², of the blood of each slice: [slice, 3].

    Pixels of a mask that lie on bone, at `BONE_HU` or above, count for the area only.
    """
    found = np.full((len(hu), 3), np.nan)
    for row, values, bleed in zip(found, hu, blood > 0, strict=True):
        soft = values[bleed & (values < BONE_HU)]
        if len(soft) >= MIN_PIXELS["bleed"]:
            row[:] = soft.mean(), soft.std(), _area_cm2(bleed, pixel_mm)
    return found


def threshold_dice(hu: Array, brain: Array, blood: Array, pixel_mm: float) -> Floats:
    """Dice per slice of the one best HU threshold, without and with smoothing: [slice, 2]; NaN without blood.

    The threshold is chosen on the same slices, so this is the most that any threshold reaches.
    """
    found = np.full((len(hu), 2), np.nan)
    bleeds = (blood > 0).any(axis=(1, 2))
    if bleeds.any():
        hu, brain, truth = hu[bleeds], brain[bleeds].astype(np.uint8), blood[bleeds] > 0
        for column, values in enumerate((soft_hu(hu), smoothed_hu(hu, brain, pixel_mm))):
            curves = dice_curve(values, truth, brain, HU_GRID)
            found[bleeds, column] = dice_at_best_threshold(curves, curves, HU_GRID)[1]
    return found


def soft_hu(hu: Array) -> Array:
    """HU [slice, row, col] with bone as air, so that no threshold of blood includes it."""
    return np.where(hu < BONE_HU, hu, AIR_HU)


def _large(brain: Array, pixel_mm: float) -> bool:
    return _area_cm2(brain, pixel_mm) >= MIN_BRAIN_CM2


def _area_cm2(mask: Array, pixel_mm: float) -> float:
    return float(mask.sum()) * pixel_mm**2 / 100


def _bone_distance(hu: Array, pixel_mm: float) -> Floats:
    """Distance of each pixel of a slice from bone in mm; infinite in a slice without bone."""
    soft = hu <= SKULL_HU
    if soft.all():
        return np.full(hu.shape, np.inf)
    distance: Floats = distance_transform_edt(soft) * pixel_mm
    return distance


def sample_rows(prepared: PreparedDataset, limit: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Rows of at most `limit` random slices; without masks only of slices that are not labelled as bleeding."""
    rows = np.arange(len(prepared.slices))
    if prepared.mask is None:
        rows = rows[prepared.slices["any"].to_numpy() != 1]
    return np.sort(np.random.default_rng(seed).permutation(rows)[:limit])


def per_slice(prepared: PreparedDataset, *, limit: int = 400, seed: int = 0) -> pd.DataFrame:
    """Statistics of each slice of a random sample of a prepared set: one row per slice, one column per statistic.

    Args:
        prepared: With or without masks; without, the columns of blood and thresholds are NaN.
        limit: Slices to sample; bleeds are sampled apart from them, among bleeding slices.
        seed: Of the sample.

    Raises:
        InputError: If it has no slices to sample, or fewer than one is requested.
    """
    if limit < 1:
        raise InputError("limit", limit, "at least 1 slice", "Choose a larger number.")
    rows = sample_rows(prepared, limit, seed)
    if not len(rows):
        what = f"slices of {prepared.path}"
        raise InputError(what, "all bleed and none has a mask", "masks, or slices without a bleed", "Use another set.")
    pixel_mm = float(prepared.slices["pixel_mm"].iloc[0])
    hu, brain = prepared.hu[rows], prepared.brain[rows]
    blood = np.zeros_like(brain) if prepared.mask is None else prepared.mask[rows]
    tissue = [measure(hu, brain, blood, pixel_mm) for measure in (rim_profile, noise_and_grain, core_percentiles)]
    columns = [name for name in UNITS if name.startswith(("rim_", "noise", "grain", "core_")) and name != "rim_spread"]
    table = pd.DataFrame(np.hstack(tissue), index=pd.Index(rows, name="row"), columns=columns)
    return table.join(_bleeds(prepared, limit, seed), how="outer")


def _bleeds(prepared: PreparedDataset, limit: int, seed: int) -> pd.DataFrame:
    """Statistics of blood of a random sample of the bleeding slices, one row per slice; no rows without masks."""
    names = ["blood_mean", "blood_sd", "blood_area", "threshold", "threshold_smoothed"]
    if prepared.mask is None:
        return pd.DataFrame(columns=names, dtype=np.float64)
    bleeding = np.flatnonzero((prepared.slices["any"] == 1).to_numpy())
    rows = np.sort(np.random.default_rng(seed).permutation(bleeding)[:limit])
    hu, brain, blood = prepared.hu[rows], prepared.brain[rows], prepared.mask[rows]
    pixel_mm = float(prepared.slices["pixel_mm"].iloc[0])
    parts = np.hstack([bleed_statistics(hu, blood, pixel_mm), threshold_dice(hu, brain, blood, pixel_mm)])
    return pd.DataFrame(parts, index=pd.Index(rows, name="row"), columns=names)


def summarize(slices: pd.DataFrame) -> pd.DataFrame:
    """Unit, mean, low, high and n of each statistic of a table of `per_slice`, in the order of `UNITS`.

    `low` and `high` are the 5th and 95th percentile over the n slices that have a value; all are NaN without any. The
    row `rim_spread` is the standard deviation between slices.
    """
    rows = {}
    for name, unit in UNITS.items():
        column = f"rim_{SPREAD_MM}" if name == "rim_spread" else name
        values = slices[column].dropna().to_numpy()
        mean, low, high = np.nan, np.nan, np.nan
        if len(values) and name == "rim_spread":
            mean = float(values.std())
        elif len(values):
            mean, (low, high) = float(values.mean()), np.percentile(values, [5, 95]).tolist()
        rows[name] = {"unit": unit, "mean": mean, "low": low, "high": high, "n": len(values)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("statistic")

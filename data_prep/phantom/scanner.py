"""Scanner models: geometry, point spread, calibration, noise and artefacts of a CT scanner."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.phantom.painting_grid import Floats

Cohort = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Scanner:
    """One scanner with one protocol.

    Attributes:
        name: Fictitious.
        field_mm: Side of the square field of view.
        thickness_mm: Slice thickness and distance between slices.
        tilt_deg: Gantry tilt, positive if the front of a slice is higher.
        blur_mm: Standard deviation of the point spread in the plane.
        sharpen: Strength of the edge enhancement.
        noise_hu: Standard deviation in the centre of the head.
        grain_mm: Correlation length of the noise.
        level_hu, contrast, bone_gain: Calibration: offset and gain of soft tissue, gain of bone.
        cupping_hu: Density of the rim minus that of the centre.
        has_head_rest: True if a head rest is in the field of view.
        round_field: True if pixels outside the inscribed circle have a padding value.
        bits_stored, signed, intercept: Pixel encoding of the DICOM files.
    """

    name: str
    field_mm: float
    thickness_mm: float
    tilt_deg: float
    blur_mm: float
    sharpen: float
    noise_hu: float
    grain_mm: float
    level_hu: float
    contrast: float
    bone_gain: float
    cupping_hu: float
    has_head_rest: bool
    round_field: bool
    bits_stored: int
    signed: bool
    intercept: int


def sample_scanner(cohort: Cohort, rng: np.random.Generator) -> Scanner:
    """Samples a scanner: one of many for training, so that models generalise; a single other one for evaluation."""
    if cohort == "evaluation":
        return Scanner(
            name="Phantom E1", field_mm=250.0, thickness_mm=5.0, tilt_deg=round(float(rng.uniform(6, 16)), 1),
            blur_mm=0.55, sharpen=0.3, noise_hu=float(rng.uniform(4.0, 5.5)), grain_mm=1.0, level_hu=-1.5,
            contrast=1.04, bone_gain=1.1, cupping_hu=2.0, has_head_rest=True, round_field=False,
            bits_stored=16, signed=True, intercept=0,
        )  # fmt: skip
    sharp = float(rng.uniform(0, 1))
    bits, signed, intercept = ((16, True, -1024), (12, False, -1024), (16, True, 0), (12, False, 0))[
        int(rng.choice(4, p=(0.45, 0.45, 0.07, 0.03)))
    ]  # the last one is the defect known from RSNA 2019
    return Scanner(
        name=f"Phantom T{int(rng.integers(1, 10))}",
        field_mm=round(float(rng.uniform(205, 275)), 1),
        thickness_mm=float(rng.choice([2.5, 3.0, 3.75, 4.0, 5.0], p=[0.12, 0.1, 0.1, 0.1, 0.58])),
        tilt_deg=round(float(rng.uniform(-4, 24)), 1) if rng.random() < 0.55 else 0.0,
        blur_mm=1.05 - 0.75 * sharp + float(rng.uniform(-0.1, 0.15)),
        sharpen=float(rng.uniform(0, 0.9)) * sharp,
        noise_hu=float(rng.uniform(2.0, 7.5)) * (0.8 + 0.3 * sharp),
        grain_mm=1.9 - 1.2 * sharp,
        level_hu=float(rng.uniform(-5, 5)),
        contrast=float(rng.uniform(0.86, 1.18)),
        bone_gain=float(rng.uniform(0.8, 1.3)),
        cupping_hu=float(rng.uniform(-2, 6)),
        has_head_rest=bool(rng.random() < 0.8),
        round_field=bool(rng.random() < 0.3),
        bits_stored=bits,
        signed=signed,
        intercept=intercept,
    )


def response(matrix: int, samples: int, blur_px: float, sharpen: float) -> Floats:
    """Weights [matrix, samples] that resample one axis and apply the point spread: a Gaussian with edge enhancement.

    Args:
        matrix: Pixels along the axis of the image.
        samples: Samples across the same field of view.
        blur_px: Standard deviation in samples.
        sharpen: Weight of the Gaussian of twice that width that is subtracted.
    """
    centres = (np.arange(matrix) + 0.5) * samples / matrix - 0.5
    offset = np.arange(samples)[None, :] - centres[:, None]
    sigma = max(blur_px, 0.5 * samples / matrix, 0.45)

    def gaussian(width: float) -> npt.NDArray[np.float64]:
        weights = np.exp(-0.5 * (offset / width) ** 2)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    return ((1 + sharpen) * gaussian(sigma) - sharpen * gaussian(2 * sigma)).astype(np.float32)


def calibrate(scanner: Scanner, hu: Floats) -> Floats:
    """Applies the scanner's calibration: air is unchanged, soft tissue gets offset and gain, bone a gain."""
    true = np.array([-1000, -150, 0, 100, 3000], np.float32)
    soft = scanner.level_hu + scanner.contrast * np.array([0, 100])
    seen = np.array([-1000, -150, soft[0], soft[1], soft[1] + 2900 * scanner.bone_gain], np.float32)
    return np.interp(hu, true, seen).astype(np.float32)


def noise(scanner: Scanner, shape: tuple[int, int, int], pixel_mm: float, rng: np.random.Generator) -> Floats:
    """Noise [slice, row, col] of filtered back projection: band-pass, with the kernel's correlation, unit variance.

    Args:
        scanner: Gives the correlation length.
        shape: (slice, row, col).
        pixel_mm: Pixel pitch.
        rng: Random generator.
    """
    rows, cols = np.fft.fftfreq(shape[1], pixel_mm)[:, None], np.fft.rfftfreq(shape[2], pixel_mm)[None]
    frequency = np.hypot(rows, cols)  # cycles per mm
    spectrum = (np.sqrt(frequency + 0.01) * np.exp(-((frequency * scanner.grain_mm * 1.6) ** 2))).astype(np.float32)
    out = np.empty(shape, np.float32)
    for index in range(shape[0]):
        white = np.fft.rfft2(rng.standard_normal(shape[1:], dtype=np.float32))
        out[index] = np.fft.irfft2(white * spectrum, s=shape[1:])
    return out / np.float32(out.std())


def head_rest(shape: tuple[int, int], pixel_mm: float, head_back_mm: float, rng: np.random.Generator) -> Floats:
    """HU [row, col] of a curved carbon-fibre cradle with foam behind the head; NaN outside of it.

    Args:
        shape: (row, col).
        pixel_mm: Pixel pitch.
        head_back_mm: Distance of the back of the head from the field's centre, positive posteriorly.
        rng: Random generator of the cradle's shape.
    """
    rows, cols = (pixel_mm * (np.arange(n) - (n - 1) / 2) for n in shape)
    radius = rng.uniform(95, 150)
    distance = np.hypot(rows[:, None] - (head_back_mm + rng.uniform(3, 14) - radius), cols[None])
    posterior = rows[:, None] > head_back_mm - rng.uniform(30, 75)
    shell_mm, shell_hu = rng.uniform(1.5, 4), rng.uniform(-300, 150)
    out = np.full(shape, np.nan, np.float32)
    out[posterior & (distance < radius) & (distance > radius - 9)] = rng.uniform(-970, -900)
    out[posterior & (distance >= radius) & (distance < radius + shell_mm)] = shell_hu
    return out


def metal_star(shape: tuple[int, int], pixel_mm: float, at: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Streak artefact around a piece of metal: HU [row, col] to add; `at` is its (row, col) in px."""
    rows, cols = (np.arange(n)[:, None] for n in shape)
    dr, dc = (rows - at[0]) * pixel_mm, (cols.T - at[1]) * pixel_mm
    radius, angle = np.hypot(dr, dc), np.arctan2(dr, dc)
    star = np.zeros(shape, np.float32)
    for order in rng.integers(3, 22, 7):
        star += rng.normal(0, 1) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    star *= rng.uniform(15, 60) / (1 + radius / 12)
    return np.where(radius < rng.uniform(1.5, 4), 2500, star).astype(np.float32)

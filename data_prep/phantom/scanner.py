"""Scanner models: geometry, kernel, calibration and artefacts of a CT scanner."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.phantom.painting_grid import Floats
from hgisam.errors import InputError

Cohort = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel: a Gaussian point spread with edge enhancement.

    Attributes:
        blur_mm: Standard deviation of the point spread in the plane.
        sharpen: Weight of the Gaussian of twice that width that is subtracted.
    """

    blur_mm: float
    sharpen: float

    def transfer(self, frequency: Floats) -> Floats:
        """Modulation transfer at frequencies in cycles per mm, 1 at 0."""
        gaussian = np.exp(-2 * (np.pi * self.blur_mm * frequency) ** 2)
        return np.asarray((1 + self.sharpen) * gaussian - self.sharpen * gaussian**4)


KERNELS = {
    "smooth": Kernel(1.0, 0.0),
    "soft": Kernel(0.8, 0.2),
    "standard": Kernel(0.65, 0.5),
    "sharp": Kernel(0.5, 0.8),
}


def kernel_named(name: str) -> Kernel:
    """The kernel of that name in `KERNELS`.

    Raises:
        InputError: If there is none.
    """
    if name not in KERNELS:
        raise InputError("phantom kernel", name, " or ".join(KERNELS), "Choose one of them.")
    return KERNELS[name]


@dataclass(frozen=True)
class Scanner:
    """One scanner with one protocol.

    Attributes:
        name: Fictitious.
        field_mm: Side of the square field of view.
        thickness_mm: Slice thickness and distance between slices.
        tilt_deg: Gantry tilt, positive if the front of a slice is higher.
        kernel: Name of the reconstruction kernel, of `KERNELS`.
        noise_hu: Standard deviation in the centre of the head.
        bone_residue: Share of bone's beam hardening that the scanner does not correct.
        off_focal: Share of the beam that comes from around the focal spot.
        water_residue: The same of water's; negative if it corrects too much.
        level_hu: Calibration: offset of soft tissue.
        contrast: Calibration: gain of soft tissue.
        bone_gain: Calibration: gain of bone.
        has_head_rest: True if a head rest is in the field of view.
        round_field: True if pixels outside the inscribed circle have a padding value.
        bits_stored: Bits of a stored pixel in the DICOM files.
        signed: True if stored pixels have a sign.
        intercept: Rescale intercept of the DICOM files.
    """

    name: str
    field_mm: float
    thickness_mm: float
    tilt_deg: float
    kernel: str
    noise_hu: float
    bone_residue: float
    off_focal: float
    water_residue: float
    level_hu: float
    contrast: float
    bone_gain: float
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
            kernel="sharp", noise_hu=float(rng.uniform(4.2, 5.6)), bone_residue=1.75,
            off_focal=0.12, water_residue=0.0,
            level_hu=-0.75, contrast=1.04, bone_gain=1.1, has_head_rest=True, round_field=False,
            bits_stored=16, signed=True, intercept=0,
        )  # fmt: skip
    kernel = str(rng.choice(list(KERNELS)))
    bits, signed, intercept = ((16, True, -1024), (12, False, -1024), (16, True, 0), (12, False, 0))[
        int(rng.choice(4, p=(0.45, 0.45, 0.07, 0.03)))
    ]  # the last one is the defect known from RSNA 2019
    return Scanner(
        name=f"Phantom T{int(rng.integers(1, 10))}",
        field_mm=round(float(rng.uniform(200, 275)), 1),
        thickness_mm=float(rng.choice([2.5, 3.0, 3.75, 4.0, 5.0], p=[0.12, 0.1, 0.1, 0.1, 0.58])),
        tilt_deg=round(float(rng.uniform(-4, 24)), 1) if rng.random() < 0.55 else 0.0,
        kernel=kernel,
        noise_hu=float(rng.uniform(3.5, 6.5)) * KERNELS["standard"].blur_mm / KERNELS[kernel].blur_mm,
        bone_residue=float(rng.uniform(0.2, 2.4)),
        off_focal=float(rng.uniform(0.0, 0.14)),
        water_residue=float(rng.uniform(-0.04, 0.04)),
        level_hu=float(rng.uniform(-5, 5)),
        contrast=float(rng.uniform(0.86, 1.18)),
        bone_gain=float(rng.uniform(0.8, 1.3)),
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

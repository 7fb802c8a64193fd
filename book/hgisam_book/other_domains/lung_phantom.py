"""Synthetic axial CT slices of the chest, some with patches of ground glass, for another organ than the head.

Simple shapes, not anatomy: two lungs in a chest wall with ribs, spine, heart and aorta; vessels that branch from the
hilum; a gradient from front to back, since the lower lung is denser in a patient on the back. Ground glass is added
to half of the slices and to nothing else. A threshold also finds vessels and the dense lung at the back, in all slices.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.special import expit

from hgisam.errors import InputError

FIELD_MM = 330.0  # side of a slice
FINE = 2  # pixels per side that are averaged to one, for partial volume at edges
AIR_HU, TISSUE_HU, FAT_HU, SOFT_HU, BLOOD_HU, BONE_HU = -1000.0, -880.0, -100.0, 45.0, 50.0, 350.0
LUNG_HU = -850.0  # of healthy lung, with its small vessels
GLASS_HU = (-680.0, -520.0)  # range of a patch at its densest; about -600
GRADIENT_HU = (60.0, 160.0)  # from the front of the lung to its back
DEPENDENT_HU = 250.0  # most that the last 15 mm at the back may be denser still
NOISE_HU = (12.0, 28.0)  # standard deviation
HALF = 0.5  # density of a patch, relative to its maximum, from which it is in the mask
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class LungSlices(NamedTuple):
    """Slices of as many patients, one each; row 0 is anterior, column 0 the patient's right.

    Attributes:
        hu: int16 [n, row, col].
        lung: [n, row, col] both lungs, with their vessels and patches.
        patch: [n, row, col] ground glass, within the lungs.
        label: [n] 1 with ground glass, else 0.
    """

    hu: npt.NDArray[np.int16]
    lung: Bools
    patch: Bools
    label: npt.NDArray[np.int64]


def lung_slices(count: int, size_px: int, seed: int, first: int = 0) -> LungSlices:
    """Generate slices, every second one with ground glass.

    Args:
        count: Number of slices, 1 or more.
        size_px: Side of the square slices, 32 or more.
        seed: Of all slices.
        first: Number of the first one; each slice depends on its own number, not on the others.

    Raises:
        InputError: If there is no slice, or its pixels are too large for the anatomy.

    Example:
        >>> made = lung_slices(2, 64, seed=0)
        >>> made.label.tolist(), [bool(patch.any()) for patch in made.patch]
        ([0, 1], [False, True])
    """
    for name, given, least in (("count", count, 1), ("size_px", size_px, 32)):
        if given < least:
            raise InputError(f"lung phantom, {name}", given, f"{least} or more", "Ask for more.")
    numbers = np.arange(first, first + count)
    label = numbers % 2
    made = [_one_slice(np.random.default_rng((seed, n)), size_px, ill=bool(n % 2)) for n in numbers.tolist()]
    hu, lung, patch = (np.stack(parts) for parts in zip(*made, strict=True))
    return LungSlices(hu, lung, patch, label)


def _one_slice(rng: np.random.Generator, size_px: int, *, ill: bool) -> tuple[npt.NDArray[np.int16], Bools, Bools]:
    """HU, lungs and patches of a slice, each [row, col]."""
    fine_px = FINE * size_px
    pixel_mm = FIELD_MM / fine_px
    axis = (np.arange(fine_px, dtype=np.float32) + 0.5) * pixel_mm - FIELD_MM / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x, y = (side + 3 * _field(rng, fine_px, 25 / pixel_mm) for side in (x, y))  # mm, bent by up to some millimetres
    x, y = x - rng.normal(0, 5), y - rng.normal(0, 5)
    level = rng.uniform(0, 1)  # 0 near the apex, 1 near the heart
    width, depth = rng.uniform(142, 158), rng.uniform(98, 112)  # half axes of the body
    body = _ellipse(x, y, 0, 0, width, depth)
    wall = _ellipse(x, y, 0, 0, width - rng.uniform(8, 20), depth - rng.uniform(8, 18))
    hu = np.where(body < 1, np.where(wall < 1, SOFT_HU, FAT_HU), AIR_HU).astype(np.float32)
    lung, hilum = _lungs(rng, x, y, width, depth, level)
    hu = _bones(rng, hu, x, y, width, depth)
    hu = _mediastinum(rng, hu, x, y, level)
    front, back = (float(np.quantile(y[lung], q)) for q in (0.01, 0.99))
    height = np.clip((y - front) / (back - front), 0, 1)  # 0 at the front of the lungs, 1 at the back
    tissue = TISSUE_HU + rng.normal(0, 15) + 12 * _field(rng, fine_px, 6 / pixel_mm)
    tissue += rng.uniform(*GRADIENT_HU) * (height - 0.5)
    at_back = np.clip(1 - (back - y) / 15, 0, 1) * np.clip(0.6 + 0.6 * _field(rng, fine_px, 15 / pixel_mm), 0, 1)
    tissue += rng.uniform(0, DEPENDENT_HU) * at_back
    glass = _glass(rng, x, y, lung, pixel_mm) if ill else np.zeros_like(x)
    tissue += (rng.uniform(*GLASS_HU) - tissue) * glass
    vessels = _vessels(rng, x, y, lung, hilum, pixel_mm)
    tissue += (BLOOD_HU - tissue) * vessels
    hu = np.where(lung, tissue, hu)
    small = _reduced(gaussian_filter(hu, 0.9 * FINE * 0.5))
    noise = gaussian_filter(rng.standard_normal(small.shape), 0.6)
    small = small + noise / noise.std() * rng.uniform(*NOISE_HU)
    inside, dense = _reduced(lung.astype(np.float32)) > HALF, _reduced(glass) > HALF
    return small.round().astype(np.int16), inside, inside & dense


def _ellipse(x: Floats, y: Floats, x0: float, y0: float, half_x: float, half_y: float) -> Floats:
    """Squared distance from the centre, in half axes: below 1 inside; lengths in mm."""
    return ((x - x0) / half_x) ** 2 + ((y - y0) / half_y) ** 2


def _field(rng: np.random.Generator, size_px: int, sigma_px: float) -> Floats:
    """Smooth random field [row, col] of mean 0 and standard deviation 1."""
    step = max(1, int(sigma_px // 4))  # coarse noise is smoothed on a coarse grid
    side = -(-size_px // step) + 2
    smooth = gaussian_filter(rng.standard_normal((side, side)), sigma_px / step, mode="wrap")
    whole = np.kron(smooth, np.ones((step, step)))[:size_px, :size_px]
    whole = gaussian_filter(whole, step / 2) if step > 1 else whole
    return np.asarray((whole - whole.mean()) / whole.std(), np.float32)


def _lungs(
    rng: np.random.Generator, x: Floats, y: Floats, width: float, depth: float, level: float
) -> tuple[Bools, list[tuple[float, float]]]:
    """Both lungs [row, col], and the place of the hilum of each in mm."""
    lungs, hilum = np.zeros(x.shape, bool), []
    for side in (-1, 1):
        half_x, half_y = width * rng.uniform(0.37, 0.41), depth * (0.68 + 0.12 * level) * rng.uniform(0.95, 1.05)
        x0 = side * (width * 0.50 + rng.normal(0, 2))
        lung = np.abs((x - x0) / half_x) ** 2.4 + np.abs((y - 2) / half_y) ** 2.4 < 1
        lung &= _ellipse(x, y, 0, -5, width * 0.26, depth * 0.62) > 1  # mediastinum
        lung &= _ellipse(x, y, 0, depth * 0.62, 36, 34) > 1  # spine and its muscles
        if side == 1:  # the heart lies to the left
            lung &= _ellipse(x, y, 34, -22, 44 * (0.6 + 0.5 * level), 40 * (0.6 + 0.5 * level)) > 1
        lungs |= lung & (_ellipse(x, y, 0, 0, width - 25, depth - 20) < 1)
        hilum.append((side * width * 0.27, 5.0))
    return lungs, hilum


def _bones(rng: np.random.Generator, hu: Floats, x: Floats, y: Floats, width: float, depth: float) -> Floats:
    """HU with vertebra, ribs and sternum."""
    marrow = BONE_HU - 180 + 40 * rng.standard_normal()
    centre = depth * 0.60
    for half_x, half_y, value in ((20, 16, BONE_HU), (17, 13, marrow)):
        hu = np.where(_ellipse(x, y, 0, centre, half_x, half_y) < 1, value, hu)
    hu = np.where(_ellipse(x, y, 0, centre + 22, 9, 8) < 1, 20.0, hu)  # spinal canal
    hu = np.where(_ellipse(x, y, 0, centre + 33, 5, 9) < 1, BONE_HU, hu)  # spinous process
    for side in (-1, 1):
        hu = np.where(_ellipse(x, y, side * 24, centre + 20, 13, 5) < 1, BONE_HU, hu)
    hu = np.where(_ellipse(x, y, 0, -depth + 20, 17, 6) < 1, BONE_HU - 100, hu)  # sternum
    start = rng.uniform(0, 0.4)
    for angle in np.arange(start, 2 * np.pi, 0.45):
        if abs(np.cos(angle)) > 0.35:
            x0, y0 = (width - 20) * np.cos(angle), (depth - 15) * np.sin(angle)
            along = (x - x0) * -np.sin(angle) + (y - y0) * np.cos(angle)
            across = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
            inside = _ellipse(along, across, 0, 0, rng.uniform(9, 16), 4.5)
            hu = np.where(inside < 1, np.where(inside < 0.4, marrow, BONE_HU), hu)
    return hu


def _mediastinum(rng: np.random.Generator, hu: Floats, x: Floats, y: Floats, level: float) -> Floats:
    """HU with the heart or the trachea, the aorta, and fat between them."""
    hu = np.where(_ellipse(x, y, 0, -8, 28, 48) < 1, FAT_HU + 60, hu)
    heart = 0.6 + 0.5 * level
    hu = np.where(_ellipse(x, y, 22, -22, 42 * heart, 36 * heart) < 1, BLOOD_HU, hu)
    hu = np.where(_ellipse(x, y, 22 + rng.normal(0, 2), 32, 12, 12) < 1, BLOOD_HU, hu)  # aorta
    for side in (-1, 1):
        apart = 4 + 26 * level  # the trachea divides into the bronchi
        hu = np.where(_ellipse(x, y, side * apart, 6, 7, 6) < 1, AIR_HU, hu)
    return hu


def _vessels(
    rng: np.random.Generator, x: Floats, y: Floats, lung: Bools, hilum: list[tuple[float, float]], pixel_mm: float
) -> Floats:
    """Share of blood [row, col] in 0 to 1: branches that taper from the hilum, and vessels that cross the slice."""
    share = np.zeros(x.shape, np.float32)
    for x0, y0 in hilum:
        for _ in range(rng.integers(4, 7)):
            outwards = 0 if x0 > 0 else np.pi
            _branch(rng, share, x, y, (x0, y0), outwards + rng.uniform(-1.4, 1.4), rng.uniform(2.4, 4.4))
    places = np.argwhere(lung)
    for _ in range(rng.integers(40, 70)):
        row, col = places[rng.integers(len(places))]
        box = _box(row, col, round(3 / pixel_mm))
        near = _ellipse(x[box], y[box], float(x[row, col]), float(y[row, col]), *rng.uniform(0.8, 2.1, 2))
        share[box] = np.maximum(share[box], (near < 1) * rng.uniform(0.5, 1))
    return np.clip(gaussian_filter(share, 0.5 / pixel_mm), 0, 1)


def _branch(
    rng: np.random.Generator, share: Floats, x: Floats, y: Floats, start: tuple[float, float], angle: float,
    radius_mm: float,
) -> None:  # fmt: skip
    """Add a vessel and its branches to the share of blood."""
    at = np.array(start)
    pixel_mm = FIELD_MM / len(share)
    while radius_mm > 0.5:
        angle += rng.normal(0, 0.12)
        at = at + 2.0 * np.array([np.cos(angle), np.sin(angle)])
        col, row = ((at + FIELD_MM / 2) / pixel_mm).astype(int)
        box = _box(row, col, int(radius_mm / pixel_mm) + 4)
        share[box] = np.maximum(share[box], _ellipse(x[box], y[box], at[0], at[1], radius_mm, radius_mm) < 1)
        radius_mm -= 0.035 * 2.0
        if rng.uniform() < 0.10:
            turn = rng.choice((-1, 1)) * rng.uniform(0.4, 0.9)
            _branch(rng, share, x, y, (at[0], at[1]), angle + turn, 0.7 * radius_mm)
            radius_mm *= 0.85


def _box(row: int, col: int, reach: int) -> tuple[slice, slice]:
    """Rows and columns around a pixel."""
    return slice(max(row - reach, 0), row + reach + 1), slice(max(col - reach, 0), col + reach + 1)


def _glass(rng: np.random.Generator, x: Floats, y: Floats, lung: Bools, pixel_mm: float) -> Floats:
    """Density of two to five soft, irregular patches of ground glass [row, col], 0 to 1, more often at the pleura."""
    whole = np.zeros(x.shape, np.float32)
    edge = lung & ~binary_erosion(lung, iterations=round(12 / pixel_mm))
    for _ in range(rng.integers(2, 6)):
        places = np.argwhere(edge if rng.uniform() < 0.6 else lung)
        row, col = places[rng.integers(len(places))]
        half_x, half_y = rng.uniform(13, 34, 2)
        near = _ellipse(x, y, float(x[row, col]), float(y[row, col]), half_x, half_y)
        ragged = 1.3 - near + 0.45 * _field(rng, len(x), 5 / pixel_mm)
        np.maximum(whole, expit(4 * (ragged - 0.5)), out=whole, casting="same_kind")
    cloudy = np.clip(1 + 0.12 * _field(rng, len(x), 4 / pixel_mm), 0, 1)
    return np.where(lung, whole * cloudy, 0).astype(np.float32)


def _reduced(fine: npt.NDArray[np.floating]) -> Floats:
    """Mean of each `FINE` × `FINE` pixels."""
    rows, cols = (side // FINE for side in fine.shape)
    return np.asarray(fine.reshape(rows, FINE, cols, FINE).mean(axis=(1, 3)), np.float32)

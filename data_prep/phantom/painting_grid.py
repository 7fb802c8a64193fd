"""The voxel grid of the template head, and the shapes and noise that are painted on it.

Positions are ICBM (MNI) millimetres: x towards the patient's right, y anterior, z superior.
Arrays are [slice, row, col]: slices ascend, row 0 is anterior, col 0 is the patient's right.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]  # float32 unless stated
Bools = npt.NDArray[np.bool_]
Point = tuple[float, float, float]  # (x, y, z) in mm

STEP_MM = 1.5
Z_MIN_MM, Y_MAX_MM, X_MAX_MM = -102.0, 103.5, 93.0
SHAPE = (137, 158, 125)  # up to z = 102, back to y = -132, left to x = -93
ORIGIN_MM = (Z_MIN_MM, Y_MAX_MM, X_MAX_MM)
NOISE_GAIN = 1.442  # a cubic B-spline of unit normal coefficients has a standard deviation of about 1 / 1.442
SIGNS = (1.0, -1.0, -1.0)  # the direction in which z, y, x run along the three axes


@lru_cache(maxsize=1)
def axes_mm() -> tuple[Floats, Floats, Floats]:
    """Coordinates (x, y, z) of the grid in mm, of shapes [1, 1, X], [1, Y, 1], [Z, 1, 1] for broadcasting."""
    z, y, x = (
        (origin + sign * STEP_MM * np.arange(n)).astype(np.float32)
        for origin, sign, n in zip(ORIGIN_MM, SIGNS, SHAPE, strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def crop(centre: Point, reach_mm: float) -> tuple[slice, slice, slice]:
    """Array slices (z, y, x) of the cube that reaches `reach_mm` from `centre`, clipped at the grid's edge."""
    middle = [(p - o) * s / STEP_MM for p, o, s in zip(centre[::-1], ORIGIN_MM, SIGNS, strict=True)]
    reach = reach_mm / STEP_MM
    z, y, x = (
        slice(int(np.clip(m - reach, 0, n)), int(np.clip(m + reach + 2, 0, n)))
        for m, n in zip(middle, SHAPE, strict=True)
    )
    return z, y, x


def ellipsoid(centre: Point, radii_mm: Point) -> tuple[tuple[slice, slice, slice], Floats]:
    """Array slices around an ellipsoid, and its norm in them: 0 in the centre, 1 on the surface."""
    where = crop(centre, max(radii_mm) * 1.5 + 3)
    x, y, z = axes_mm()
    dx, dy, dz = x[..., where[2]] - centre[0], y[:, where[1]] - centre[1], z[where[0]] - centre[2]
    return where, np.sqrt((dx / radii_mm[0]) ** 2 + (dy / radii_mm[1]) ** 2 + (dz / radii_mm[2]) ** 2)


def tube(start: Point, end: Point) -> tuple[tuple[slice, slice, slice], Floats, Floats]:
    """Array slices around a straight line, the distance to it in mm, and the position along it in 0..1."""
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
    length = float(np.linalg.norm(b - a))
    where = crop(tuple(((a + b) / 2).tolist()), length / 2 + 15)
    x, y, z = axes_mm()
    dx, dy, dz = x[..., where[2]] - a[0], y[:, where[1]] - a[1], z[where[0]] - a[2]
    u = (b - a) / length
    along = np.clip(dx * u[0] + dy * u[1] + dz * u[2], 0, length)
    distance = np.sqrt((dx - along * u[0]) ** 2 + (dy - along * u[1]) ** 2 + (dz - along * u[2]) ** 2)
    return where, distance, along / length


@lru_cache(maxsize=64)
def upsampling(n: int, cells: int) -> Floats:
    """Weights [n, cells + 3] of a uniform cubic B-spline with `cells` cells over n samples."""
    position = np.linspace(0, cells, n, endpoint=False)
    first = position.astype(int)
    t = position - first
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    weights = np.zeros((n, cells + 3), np.float32)
    for k in range(4):
        weights[np.arange(n), first + k] += basis[k]
    return weights


def smooth_noise(
    rng: np.random.Generator, cell_mm: float | tuple[float, float, float], shape: tuple[int, ...] = SHAPE
) -> Floats:
    """Smooth random field on a grid of `STEP_MM`, mean about 0, standard deviation about 1.

    Args:
        rng: Random generator of the coefficients.
        cell_mm: Size of the structures, one number or one per axis.
        shape: Samples per axis.
    """
    cells = cell_mm if isinstance(cell_mm, tuple) else (cell_mm,) * len(shape)
    weights = [upsampling(n, max(1, round(n * STEP_MM / cell))) for n, cell in zip(shape, cells, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for w in weights:  # contracts the first axis and appends the new one, so the final order is the original
        field = np.tensordot(field, w, axes=(0, 1))
    return (field * np.float32(NOISE_GAIN ** len(shape))).astype(np.float32)


def soft_step(value: Floats, width: float) -> Floats:
    """Fraction of a voxel below zero: 1 for value << 0, 0 for value >> 0, linear over `width`."""
    fraction: Floats = np.clip(0.5 - value / width, 0, 1)
    return fraction

"""The vault of the skull and the scalp over it: thickness, sutures, fractures, holes of surgery, swelling."""

import numpy as np

from data_prep.phantom.painting_grid import Floats, axes_mm, smooth_noise, soft_step

CENTRE_MM = (0.0, -16.0, 8.0)  # of the vault
FRACTURED_FRACTION, OPERATED_FRACTION, SWOLLEN_FRACTION = 0.05, 0.06, 0.2


def skull_thickness_mm(scale: float, rng: np.random.Generator) -> Floats:
    """Thickness of the vault [Z, Y, X]: thin at temples and orbits, thick at brow and occiput, uneven everywhere."""
    x, y, z = axes_mm()
    thin = 2.6 * np.exp(-((((np.abs(x) - 66) / 16) ** 2) + ((y - 5) / 38) ** 2 + ((z + 8) / 28) ** 2))
    thick = 3.0 * np.exp(-(((x / 22) ** 2) + ((y + 104) / 16) ** 2 + ((z + 5) / 22) ** 2))
    brow = 2.0 * np.exp(-((((y - 74) / 14) ** 2) + ((z + 5) / 22) ** 2 + (x / 45) ** 2))
    orbits = 4.6 * np.exp(-((((np.abs(x) - 30) / 22) ** 4) + ((y - 42) / 28) ** 4 + ((z + 23) / 13) ** 4))
    uneven = 1 + 0.12 * smooth_noise(rng, 25) + 0.18 * smooth_noise(rng, 70)
    thickness = (5.8 - thin - orbits + thick + brow) * scale * uneven
    return np.clip(thickness, 1.2, 14).astype(np.float32)


def scalp_thickness_mm(scalp_mm: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Thickness of the scalp [Z, Y, X], and of the dense layers on the bone: muscle at temples and nape, swelling."""
    x, y, z = axes_mm()
    temple = 9 * np.exp(-((((np.abs(x) - 70) / 16) ** 2) + ((y - 18) / 24) ** 2 + ((z + 22) / 30) ** 2))
    nape = 14 * np.exp(-((((y + 95) / 22) ** 2) + ((z + 58) / 24) ** 2 + (x / 50) ** 2))
    dense = (temple + nape) * rng.uniform(0.6, 1.2) + rng.uniform(0.3, 2.0)
    if rng.random() < SWOLLEN_FRACTION:
        px, py, pz = _site(rng)
        reach = rng.uniform(14, 34)
        bump = np.exp(-(((x - px) / reach) ** 2) - ((y - py) / reach) ** 2 - ((z - pz) / reach) ** 2)
        dense = dense + rng.uniform(3, 14) * bump
    return (scalp_mm * (1 + 0.2 * smooth_noise(rng, 50)) + dense).astype(np.float32), dense.astype(np.float32)


def openings(xyz: Floats, rng: np.random.Generator) -> Floats:
    """Share [N] of soft tissue in the bone of the vault at positions [N, 3]: sutures, fractures, holes of surgery."""
    x, y, z = xyz.T
    bend = 1.5 * np.sin(x / 5 + rng.uniform(0, 6)) + 1.5 * np.sin(z / 4 + rng.uniform(0, 6))  # sutures are ragged
    gaps = [
        np.abs(y - 8 + 0.25 * np.abs(x) + bend) + 40 * (z < 10),  # coronal
        np.abs(x + bend) + 40 * ((z < 40) | (y > 5)),  # sagittal
        np.abs(y + 92 - 0.55 * np.abs(x) + 0.5 * (z - 40) + bend) + 40 * ((z < -10) | (z > 70)),  # lambdoid
    ]
    share = rng.uniform(0, 0.9) * soft_step(np.minimum.reduce(gaps) - rng.uniform(0.2, 0.9), 1.5)
    if rng.random() < FRACTURED_FRACTION:
        site, across = np.asarray(_site(rng)), rng.standard_normal(3)
        offset = xyz - site.astype(np.float32)
        line = np.abs(offset @ (across / np.linalg.norm(across))) + 40 * (np.linalg.norm(offset, axis=1) > 40)
        share = np.maximum(share, soft_step(line - rng.uniform(0.3, 1.2), 1.5))
    if rng.random() < OPERATED_FRACTION:
        distance = np.linalg.norm(xyz - np.asarray(_site(rng), np.float32), axis=1)
        radius = rng.uniform(5, 9)
        if rng.random() < 0.5:  # a flap of bone: the cut around it stays open
            distance, radius = np.abs(distance - rng.uniform(22, 42)), rng.uniform(0.5, 1.5)
        share = np.maximum(share, soft_step(distance - radius, 1.5))
    return np.asarray(share, np.float32)


def _site(rng: np.random.Generator) -> tuple[float, float, float]:
    """A point near the outer table of the vault."""
    x, y, z = rng.standard_normal(3) * (1, 1, 0.7) + (0, 0, 0.4)
    length = float(np.sqrt(x**2 + y**2 + z**2))
    cx, cy, cz = CENTRE_MM
    return cx + 76 * x / length, cy + 92 * y / length, cz + 82 * z / length

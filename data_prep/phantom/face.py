"""The head outside the cranial vault: skull base, orbits, sinuses, mastoids, face and neck.

The shapes are primitives at their typical positions in template space, precise enough for the lowest slices of a head
CT. They are painted once per process as a label volume; each patient gives the labels densities.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtri

from data_prep.phantom.painting_grid import SHAPE, STEP_MM, Floats, Point, axes_mm, ellipsoid, smooth_noise, tube
from data_prep.phantom.template import load_template, mirrored

Labels = npt.NDArray[np.uint8]
SKIN_BLUR_MM = 4.0


class Part(IntEnum):
    """Tissue label of a voxel outside the cavity; `NONE` belongs to the vault or the air."""

    NONE, FAT, MUSCLE, SPONGY, CORTICAL, AIR_CELL, SINUS, GLOBE, LENS, NERVE, SOFT = range(11)


# (centre, radii, wall in mm, wall's part, content's part); mirrored when x is not 0, painted in this order
HOLLOWS: tuple[tuple[Point, Point, float, Part, Part], ...] = (
    ((0, -6, -47), (15, 20, 10), 2.0, Part.CORTICAL, Part.SPONGY),  # sphenoid body and clivus
    ((7, 8, -41), (7, 11, 8), 1.2, Part.CORTICAL, Part.SINUS),  # sphenoid sinus
    ((12, 1, -27), (5, 11, 7), 0.5, Part.CORTICAL, Part.MUSCLE),  # cavernous sinus
    ((0, 1, -26), (8, 8, 7), 1.0, Part.CORTICAL, Part.MUSCLE),  # sella and pituitary
    ((24, 42, -36), (19, 30, 17), 2.0, Part.CORTICAL, Part.FAT),  # orbit
    ((6, 42, -38), (6, 24, 13), 1.2, Part.CORTICAL, Part.AIR_CELL),  # ethmoid cells
    ((0, 46, -66), (13, 30, 16), 1.5, Part.CORTICAL, Part.SINUS),  # nasal cavity
    ((30, 45, -67), (14, 17, 15), 1.5, Part.CORTICAL, Part.SINUS),  # maxillary sinus
    ((9, 76, -12), (10, 6, 11), 1.8, Part.CORTICAL, Part.SINUS),  # frontal sinus
    ((54, -44, -50), (13, 16, 17), 2.5, Part.CORTICAL, Part.AIR_CELL),  # mastoid
    ((54, -4, -62), (7, 5, 8), 1.5, Part.CORTICAL, Part.SPONGY),  # mandibular condyle
    ((40, 12, -76), (7, 9, 24), 2.0, Part.CORTICAL, Part.SPONGY),  # mandibular ramus
)
# (start, end, radius in mm, part); mirrored when x is not 0
RODS: tuple[tuple[Point, Point, float, Part], ...] = (
    ((13, -17, -37), (58, -40, -37), 8.5, Part.CORTICAL),  # petrous bone
    ((28, -25, -38), (17, -24, -36), 1.7, Part.NERVE),  # internal auditory canal
    ((36, -24, -42), (86, -24, -47), 3.2, Part.SINUS),  # external auditory canal, middle ear
    ((46, 42, -46), (70, 2, -50), 3.5, Part.CORTICAL),  # zygomatic arch
    ((44, 52, -52), (45, 58, -22), 4.0, Part.CORTICAL),  # lateral orbital rim
    ((8, 14, -28), (29, 50, -36), 2.0, Part.NERVE),  # optic nerve
    ((12, 16, -34), (20, 62, -36), 1.9, Part.NERVE),  # medial rectus
    ((20, 18, -34), (43, 58, -36), 1.9, Part.NERVE),  # lateral rectus
    ((0, 60, -84), (0, 30, -50), 1.0, Part.CORTICAL),  # nasal septum
)
FACE: tuple[tuple[Point, Point], ...] = (  # soft tissue envelopes; mirrored when x is not 0
    ((0, 34, -72), (60, 58, 66)),
    ((28, 50, -40), (34, 28, 26)),
    ((0, -40, -100), (60, 58, 62)),
    ((0, 90, -56), (13, 16, 18)),  # nose
    ((77, -30, -42), (7, 14, 24)),  # ear
)


def _sides(point: Point) -> tuple[int, ...]:
    """Sides of a shape: both, unless it is on the midline."""
    return (1, -1) if point[0] else (1,)


def _paint_hollows(parts: Labels, outside_mm: Floats) -> None:
    """Paints the `HOLLOWS` into the label volume."""
    for centre, radii, wall_mm, wall, content in HOLLOWS:
        for side in _sides(centre):
            where, norm = ellipsoid(mirrored(centre, side), radii)
            free = outside_mm[where] > (0 if content is Part.MUSCLE else 1.5)
            shell = 1 + wall_mm / min(radii)
            block = parts[where]
            block[free & (norm < shell) & ((norm >= 1) | (block == Part.NONE) | (block == Part.SOFT))] = wall
            block[free & (norm < 1)] = content


def _paint_rods(parts: Labels, outside_mm: Floats) -> None:
    """Paints the `RODS` into the label volume."""
    for start, end, radius_mm, part in RODS:
        for side in _sides(start):
            where, distance, _ = tube(mirrored(start, side), mirrored(end, side))
            parts[where][(distance < radius_mm) & (outside_mm[where] > 0)] = part


def _paint_eyes(parts: Labels) -> None:
    """Paints sclera, globe and lens of both eyes into the label volume."""
    for side in (1, -1):
        where, norm = ellipsoid((31.0 * side, 61.0, -36.0), (12, 12, 12))
        parts[where][norm < 1.13] = Part.NERVE  # sclera
        parts[where][norm < 1] = Part.GLOBE
        where, norm = ellipsoid((32.0 * side, 69.5, -36.0), (4.5, 2.6, 4.5))
        parts[where][norm < 1] = Part.LENS


def _paint_vertebra(parts: Labels, outside_mm: Floats) -> None:
    """Paints the upper cervical spine into the label volume."""
    x, y, z = axes_mm()
    ring = (x / 1.6) ** 2 + (y + 46) ** 2
    parts[(ring < 20**2) & (z < -80) & (outside_mm > 3)] = Part.SPONGY
    where, norm = ellipsoid((0, -29, -88), (6, 6, 16))
    parts[where][norm < 1] = Part.CORTICAL  # dens


@lru_cache(maxsize=1)
def face_parts() -> tuple[Labels, Floats]:
    """Labels (`Part`) outside the vault, and signed distance to the skin of face and neck in mm; both [Z, Y, X]."""
    outside_mm = load_template().outside_mm
    envelope = np.zeros(SHAPE, bool)
    for centre, radii in FACE:
        for side in _sides(centre):
            where, norm = ellipsoid(mirrored(centre, side), radii)
            envelope[where] |= norm < 1
    blurred = ndimage.gaussian_filter(envelope.astype(np.float32), SKIN_BLUR_MM / STEP_MM)
    # a blurred edge is the integral of a normal distribution, whose inverse is the distance to the edge
    skin_mm = (-SKIN_BLUR_MM * ndtri(np.clip(blurred, 1e-3, 1 - 1e-3))).astype(np.float32)
    parts = np.zeros(SHAPE, np.uint8)
    fat = smooth_noise(np.random.default_rng(1), 14) > 0.35  # the same fat pads in all patients
    soft = (outside_mm > 7) & (skin_mm < 0)
    parts[soft] = np.where(fat[soft] & (skin_mm[soft] < -2), Part.FAT, Part.SOFT)
    _paint_hollows(parts, outside_mm)
    _paint_rods(parts, outside_mm)
    _paint_eyes(parts)
    _paint_vertebra(parts, outside_mm)
    parts[(outside_mm <= 0)] = Part.NONE
    return parts, skin_mm

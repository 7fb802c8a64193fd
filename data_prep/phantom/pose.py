"""Pose of a head in the scanner, and its size and shape relative to the template."""

from dataclasses import dataclass

import numpy as np

from data_prep.phantom.painting_grid import NOISE_GAIN, ORIGIN_MM, SIGNS, STEP_MM, Floats, upsampling
from data_prep.phantom.scanner import Scanner

CENTRE_MM = np.array([0, -16, 8], np.float32)  # of the template head; poses turn about it
VERTEX_MM = 92.0
WARP_REACH_MM = 128  # the warp is defined this far above and below the centre


@dataclass(frozen=True)
class Pose:
    """Position, size and shape of one head.

    Attributes:
        to_template: [3, 3] scanner mm to template mm, in (x, y, z).
        shift_mm: Position of the head's centre in the field of view, (x, y).
        lowest_mm: Template height of the lowest slice.
        warps: Cubic B-spline coefficients of smooth deformations in mm, coarse and fine, each [3, z, y, x].
    """

    to_template: Floats
    shift_mm: tuple[float, float]
    lowest_mm: float
    warps: tuple[Floats, Floats]

    @property
    def volume_scale(self) -> float:
        """Ratio of the patient's volume to the template's."""
        return float(1 / np.linalg.det(self.to_template))


def sample_pose(rng: np.random.Generator) -> Pose:
    """Samples size (0.85-1.15 of an average adult; the template is large), rotation, position, warp, lowest slice."""
    turned = float(rng.normal(0, 5)) if rng.random() < 0.7 else float(rng.uniform(-30, 30))
    roll, pitch, yaw = np.deg2rad([rng.normal(0, 4), rng.normal(4, 6), turned])
    size = float(np.clip(rng.normal(0.905, 0.045), 0.8, 1.03)) * np.exp(rng.normal(0, 0.025, 3))
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    coarse = rng.standard_normal((3, 7, 7, 7)) * rng.uniform(1.5, 4.5) * NOISE_GAIN
    fine = rng.standard_normal((3, 12, 12, 12)) * rng.uniform(0.4, 1.5) * NOISE_GAIN
    return Pose(
        to_template=(np.diag(1 / size) @ about_x @ about_y @ about_z).astype(np.float32),
        shift_mm=(float(rng.normal(0, 7)), float(rng.normal(0, 8))),
        lowest_mm=float(rng.uniform(-78, -52)),
        warps=(coarse.astype(np.float32), fine.astype(np.float32)),
    )


def slice_heights_mm(pose: Pose, thickness_mm: float) -> Floats:
    """Table position [slice] relative to the head's centre, from the lowest slice to one above the vertex."""
    stretch = 1 / float(np.linalg.norm(pose.to_template[2]))
    low, high = (pose.lowest_mm - CENTRE_MM[2]) * stretch, (VERTEX_MM - CENTRE_MM[2]) * stretch
    return np.arange(low, high + thickness_mm, thickness_mm, dtype=np.float32)


def template_index(pose: Pose, scanner: Scanner, heights_mm: Floats, samples: int) -> Floats:
    """Array indices on the painting grid of the sample points of some planes, [3 (slice, row, col), plane, row, col].

    Args:
        pose: Pose of the head.
        scanner: Gives field of view and tilt; a positive tilt raises the front of a plane.
        heights_mm: Table position of the planes relative to the head's centre. [plane]
        samples: Points along rows and columns.
    """
    half = scanner.field_mm / 2
    offset = (half - (np.arange(samples) + 0.5) * scanner.field_mm / samples).astype(np.float32)  # + is anterior, right
    tilt = np.float32(np.deg2rad(scanner.tilt_deg))
    x = (offset - np.float32(pose.shift_mm[0]))[None, None, :]
    y = (offset * np.cos(tilt) - np.float32(pose.shift_mm[1]))[None, :, None]
    z = heights_mm[:, None, None] + (offset * np.sin(tilt))[None, :, None]
    index = np.empty((3, heights_mm.size, samples, samples), np.float32)
    coarse, fine = (_warp_displacement_mm(warp, heights_mm, samples) for warp in pose.warps)
    warp_mm = coarse + fine
    for axis in range(3):
        line = 2 - axis  # grid axes are z, y, x
        a, b, c = pose.to_template[line]
        mm = a * x + (b * y + c * z) + (CENTRE_MM[line] - np.float32(ORIGIN_MM[axis])) + warp_mm[:, line]
        np.multiply(mm, np.float32(SIGNS[axis] / STEP_MM), out=index[axis])
    return index


def _warp_displacement_mm(warp: Floats, heights_mm: Floats, samples: int) -> Floats:
    """Displacement [plane, 3, row, col] of the sample points by a warp, in mm."""
    cells = warp.shape[1] - 3
    steps = np.clip(np.round(heights_mm + WARP_REACH_MM), 0, 2 * WARP_REACH_MM - 1).astype(int)
    along = upsampling(2 * WARP_REACH_MM, cells)[steps]  # [plane, cz]
    in_plane = upsampling(samples, cells)  # [samples, c]
    planes = np.tensordot(along, warp, axes=(1, 1))  # [plane, 3, cy, cx]
    return np.asarray(in_plane @ (planes @ in_plane.T), np.float32)

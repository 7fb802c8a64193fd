"""Simulation of the scan: slabs through a posed head, the beam's errors, kernel, calibration, noise and objects."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_prep.phantom.anatomy import AIR_HU
from data_prep.phantom.beam import GRID_PX, add_noise, beam_errors
from data_prep.phantom.canvas import SUBARACHNOID, Canvas
from data_prep.phantom.painting_grid import SHAPE, STEP_MM, Floats
from data_prep.phantom.pose import Pose, slice_heights_mm, template_index
from data_prep.phantom.scanner import Scanner, calibrate, head_rest, kernel_named, response

VISIBLE_MM2 = 40.0  # a bleed with a smaller area in a slice is neither in its labels nor in its mask
MASK_FRACTION = 0.5
SUBARACHNOID_FRACTION = 0.35  # lower, since subarachnoid blood is mixed with fluid
SAMPLE_MM = 1.25
METAL_FRACTION = 0.06
OFF_FOCAL_MM = 1.8  # standard deviation of the point spread of off-focal radiation
SLICES_AT_ONCE = 6


@dataclass(frozen=True)
class Slabs:
    """Slab averages before the in-plane blur, each [slice, sample row, sample col].

    Attributes:
        hu: Density.
        outside_mm: Signed distance to the inner table, positive outside.
        blood: Fraction of blood.
        kind: Subtype of the bleed, 1-5; 0 for none.
    """

    hu: Floats
    outside_mm: Floats
    blood: Floats
    kind: npt.NDArray[np.uint8]


def average_slabs(head: Floats, canvas: Canvas, pose: Pose, scanner: Scanner, samples: int) -> Slabs:
    """Averages the head [z, y, x] over the thickness of each slice."""
    heights = slice_heights_mm(pose, scanner.thickness_mm)
    parts = max(2, round(scanner.thickness_mm / STEP_MM))
    inner = (((np.arange(parts) + 0.5) / parts - 0.5) * scanner.thickness_mm).astype(np.float32)
    blood, kind = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    blood.ravel()[canvas.template.inside] = canvas.blood
    kind.ravel()[canvas.template.inside] = canvas.kind
    kind = np.where(kind > 0, kind, ndimage.grey_dilation(kind, (3, 3, 3))).astype(np.uint8) if canvas.bleeds else kind
    shape = (heights.size, samples, samples)
    hu, outside_mm, blood_fraction = (np.zeros(shape, np.float32) for _ in range(3))
    out = Slabs(hu, outside_mm, blood_fraction, np.zeros(shape, np.uint8))
    for start in range(0, heights.size, SLICES_AT_ONCE):
        block = slice(start, min(start + SLICES_AT_ONCE, heights.size))
        planes = (heights[block, None] + inner).ravel()
        index = template_index(pose, scanner, planes, samples)
        split = (-1, parts, samples, samples)
        values = ndimage.map_coordinates(head, index, order=1, mode="constant", cval=AIR_HU)
        out.hu[block] = values.reshape(split).mean(axis=1)
        middle = index.reshape(3, *split)[:, :, parts // 2]  # smooth enough for one plane per slab
        out.outside_mm[block] = ndimage.map_coordinates(canvas.template.outside_mm, middle, order=1, mode="nearest")
        if canvas.bleeds:
            share = _sampled_blood(blood, index).reshape(split)
            out.blood[block] = share.mean(axis=1)
            fullest = np.take_along_axis(index.reshape(3, *split), share.argmax(axis=1)[None, :, None], axis=2)[:, :, 0]
            out.kind[block] = ndimage.map_coordinates(kind, fullest, order=0, mode="constant")
    return out


def _sampled_blood(blood: Floats, index: Floats) -> Floats:
    """Blood fraction at the sample points, interpolated only near blood."""
    out = np.zeros(index.shape[1:], np.float32)
    near = np.ones(index.shape[1:], bool)
    for axis, box in enumerate(ndimage.find_objects((blood > 0).astype(np.uint8))[0] if blood.any() else ()):
        near &= (index[axis] > box.start - 1) & (index[axis] < box.stop)
    if blood.any() and near.any():
        out[near] = ndimage.map_coordinates(blood, index[:, near], order=1, mode="constant")
    return out


def simulate_images(
    slabs: Slabs, scanner: Scanner, matrix: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Simulates images, mask and brain of a scan, each [slice, row, col], from its slabs.

    Args:
        slabs: From `average_slabs`.
        scanner: Its blur, calibration, noise and artefacts.
        matrix: Rows and columns of a slice.
        rng: Random generator of noise and artefacts.
    """
    samples = slabs.hu.shape[1]
    pixel_mm = scanner.field_mm / matrix
    kernel = kernel_named(scanner.kernel)
    blur = kernel.blur_mm * samples / scanner.field_mm
    sharp, plain = response(matrix, samples, blur, kernel.sharpen), response(matrix, samples, blur, 0)
    _add_metal(slabs, scanner, rng)
    coarse = response(GRID_PX, samples, 0, 0)
    error, spread = beam_errors(coarse @ slabs.hu @ coarse.T, scanner)
    fine = response(matrix, GRID_PX, 0, 0)
    wide = response(matrix, samples, OFF_FOCAL_MM * samples / scanner.field_mm, 0)
    hu: Floats = (1 - scanner.off_focal) * (sharp @ slabs.hu @ sharp.T) + fine @ error @ fine.T
    hu += scanner.off_focal * (wide @ slabs.hu @ wide.T)
    outside = plain @ slabs.outside_mm @ plain.T
    brain = outside < 0
    nearest = ((np.arange(matrix) + 0.5) * samples / matrix).astype(int)
    kind = slabs.kind[:, nearest][:, :, nearest]
    share = plain @ slabs.blood @ plain.T if slabs.blood.any() else np.zeros_like(hu)
    limit = np.where(kind == SUBARACHNOID, SUBARACHNOID_FRACTION, MASK_FRACTION)
    mask = np.where((share > limit) & brain, kind, 0).astype(np.uint8)
    drop_invisible(mask, pixel_mm**2)
    _blur_by_motion(hu, scanner, rng)
    hu = calibrate(scanner, hu)
    _add_head_rest(hu, scanner, rng)
    add_noise(hu, fine @ spread @ fine.T, scanner, rng)
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), mask, brain


def drop_invisible(mask: npt.NDArray[np.uint8], pixel_mm2: float) -> None:
    """Removes a subtype from the slices of a mask [slice, row, col] where its area is below `VISIBLE_MM2`."""
    for kind in range(1, 6):
        area = (mask == kind).sum(axis=(1, 2)) * pixel_mm2
        for index in np.flatnonzero((area > 0) & (area < VISIBLE_MM2)):
            mask[index][mask[index] == kind] = 0


def _blur_by_motion(hu: Floats, scanner: Scanner, rng: np.random.Generator) -> None:
    """Adds motion artefacts to a few slices of some scans: a shifted ghost."""
    if rng.random() > 0.08:
        return
    first, count = int(rng.integers(hu.shape[0])), int(rng.integers(1, 7))
    pixel_mm = scanner.field_mm / hu.shape[1]
    for index in range(first, min(first + count, hu.shape[0])):
        shift = rng.normal(0, 2.5, 2) / pixel_mm
        ghost = ndimage.shift(hu[index], shift, order=1, cval=AIR_HU)
        hu[index] += np.float32(rng.uniform(0.25, 0.5)) * (ghost - hu[index])


def _add_metal(slabs: Slabs, scanner: Scanner, rng: np.random.Generator) -> None:
    """Puts clips, coils or staples into the slabs of a few patients; their streaks are the beam's."""
    if rng.random() > METAL_FRACTION:
        return
    sample_mm = scanner.field_mm / slabs.hu.shape[1]
    hu, outside_mm = (part[len(part) // 4 :: 3] for part in (slabs.hu, slabs.outside_mm))  # some slabs are enough
    for places in map(np.argwhere, (outside_mm < -5, np.abs(outside_mm - 6) < 2)):  # inside, and at the vault
        if len(places) == 0 or rng.random() < 0.5:
            continue
        for _ in range(int(rng.integers(1, 5))):
            index, row, col = (int(v) for v in places[int(rng.integers(len(places)))])
            reach = max(1, round(rng.uniform(1, 4) / sample_mm))
            hu[index, row : row + reach, col : col + reach] = rng.uniform(2500, 9000)


def _add_head_rest(hu: Floats, scanner: Scanner, rng: np.random.Generator) -> None:
    """Adds the head rest."""
    if not scanner.has_head_rest:
        return
    rows, cols = hu.shape[1:]
    pixel_mm = scanner.field_mm / rows
    solid = np.flatnonzero((hu[:, :, cols // 3 : -(cols // 3)] > -300).any(axis=(0, 2)))
    back_mm = (float(solid.max()) - rows / 2) * pixel_mm if solid.size else 100.0
    rest = head_rest((rows, cols), pixel_mm, back_mm, rng)
    in_rest = np.isfinite(rest) & (hu < -300)
    hu[in_rest] = (hu + 1000 + np.nan_to_num(rest))[in_rest]

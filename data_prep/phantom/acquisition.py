"""The scan itself: slabs through a posed head, then the scanner's blur, calibration, noise and artefacts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_prep.phantom.anatomy import AIR_HU
from data_prep.phantom.canvas import SUBARACHNOID, Canvas
from data_prep.phantom.pose import Pose, slice_heights_mm, template_index
from data_prep.phantom.scanner import Scanner, calibrate, head_rest, metal_star, noise, response
from data_prep.phantom.space import SHAPE, STEP_MM, Floats

VISIBLE_MM2 = 40.0  # a bleed that covers less of a slice is neither labelled nor outlined there
MASK_FRACTION = 0.5
SUBARACHNOID_FRACTION = 0.35  # it is mixed with fluid, and outlined where it is seen
SAMPLE_MM = 1.25
SLICES_AT_ONCE = 6


@dataclass(frozen=True)
class Slabs:
    """Slab averages before the in-plane blur, each [slice, sample row, sample col].

    Attributes:
        hu: Density.
        outside_mm: Signed distance to the inner table, positive outside.
        blood: Fraction that is a bleed.
        kind: Which bleed, 1-5, where there is any.
    """

    hu: Floats
    outside_mm: Floats
    blood: Floats
    kind: npt.NDArray[np.uint8]


def take_slabs(head: Floats, canvas: Canvas, pose: Pose, scanner: Scanner, samples: int) -> Slabs:
    """Averages the head over each slice's true thickness."""
    heights = slice_heights_mm(pose, scanner.thickness_mm)
    parts = max(2, round(scanner.thickness_mm / STEP_MM))
    inner = (((np.arange(parts) + 0.5) / parts - 0.5) * scanner.thickness_mm).astype(np.float32)
    blood, kind = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    blood.ravel()[canvas.template.inside] = canvas.blood
    kind.ravel()[canvas.template.inside] = canvas.kind
    kind = np.where(kind > 0, kind, ndimage.grey_dilation(kind, (3, 3, 3))).astype(np.uint8) if canvas.bleeds else kind
    shape = (heights.size, samples, samples)
    hu, outside_mm, share_of_blood = (np.zeros(shape, np.float32) for _ in range(3))
    out = Slabs(hu, outside_mm, share_of_blood, np.zeros(shape, np.uint8))
    for start in range(0, heights.size, SLICES_AT_ONCE):
        block = slice(start, min(start + SLICES_AT_ONCE, heights.size))
        planes = (heights[block, None] + inner).ravel()
        index = template_index(pose, scanner, planes, samples)
        split = (-1, parts, samples, samples)
        values = ndimage.map_coordinates(head, index, order=1, mode="constant", cval=AIR_HU)
        out.hu[block] = values.reshape(split).mean(axis=1)
        middle = index.reshape(3, *split)[:, :, parts // 2]  # smooth enough for one plane a slab
        out.outside_mm[block] = ndimage.map_coordinates(canvas.template.outside_mm, middle, order=1, mode="nearest")
        if canvas.bleeds:
            share = _sampled_blood(blood, index).reshape(split)
            out.blood[block] = share.mean(axis=1)
            fullest = np.take_along_axis(index.reshape(3, *split), share.argmax(axis=1)[None, :, None], axis=2)[:, :, 0]
            out.kind[block] = ndimage.map_coordinates(kind, fullest, order=0, mode="constant")
    return out


def _sampled_blood(blood: Floats, index: Floats) -> Floats:
    """Blood fraction at the sample points; looks only where there is some near."""
    out = np.zeros(index.shape[1:], np.float32)
    near = np.ones(index.shape[1:], bool)
    for axis, box in enumerate(ndimage.find_objects((blood > 0).astype(np.uint8))[0] if blood.any() else ()):
        near &= (index[axis] > box.start - 1) & (index[axis] < box.stop)
    if blood.any() and near.any():
        out[near] = ndimage.map_coordinates(blood, index[:, near], order=1, mode="constant")
    return out


def expose(
    slabs: Slabs, scanner: Scanner, matrix: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Images, masks and brain of a scan, each [slice, row, col], from its slabs."""
    samples = slabs.hu.shape[1]
    pixel_mm = scanner.field_mm / matrix
    blur = scanner.blur_mm * samples / scanner.field_mm
    sharp, plain = response(matrix, samples, blur, scanner.sharpen), response(matrix, samples, blur, 0)
    hu: Floats = sharp @ slabs.hu @ sharp.T
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
    _add_shading_and_noise(hu, scanner, rng)
    _add_objects(hu, brain, scanner, rng)
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), mask, brain


def drop_invisible(mask: npt.NDArray[np.uint8], pixel_mm2: float) -> None:
    """Erases a type from the slices of a mask [slice, row, col] where it covers less than `VISIBLE_MM2`."""
    for kind in range(1, 6):
        area = (mask == kind).sum(axis=(1, 2)) * pixel_mm2
        for index in np.flatnonzero((area > 0) & (area < VISIBLE_MM2)):
            mask[index][mask[index] == kind] = 0


def _blur_by_motion(hu: Floats, scanner: Scanner, rng: np.random.Generator) -> None:
    """In some scans the patient moves during a few slices: a ghost, shifted and turned."""
    if rng.random() > 0.08:
        return
    first, count = int(rng.integers(hu.shape[0])), int(rng.integers(1, 7))
    pixel_mm = scanner.field_mm / hu.shape[1]
    for index in range(first, min(first + count, hu.shape[0])):
        shift = rng.normal(0, 2.5, 2) / pixel_mm
        ghost = ndimage.shift(hu[index], shift, order=1, cval=AIR_HU)
        hu[index] += np.float32(rng.uniform(0.25, 0.5)) * (ghost - hu[index])


def _add_shading_and_noise(hu: Floats, scanner: Scanner, rng: np.random.Generator) -> None:
    """Cupping over the head, and noise that is strongest in its middle and where much bone lies in the slice."""
    _, rows, cols = hu.shape
    pixel_mm = scanner.field_mm / rows
    r, c = (pixel_mm * (np.arange(n) - (n - 1) / 2) for n in (rows, cols))
    radius = np.hypot(r[:, None], c[None]) / 85
    cup = scanner.cupping_hu * (np.minimum(radius, 1.2) ** 2 - 0.5)
    grain = noise(scanner, (hu.shape[0], rows, cols), pixel_mm, rng)
    for index in range(hu.shape[0]):
        body = hu[index] > -400
        bone = float(((hu[index] > 300) & (radius < 1)).sum()) * pixel_mm**2
        strength = scanner.noise_hu * (1 + 0.35 * min(bone / 6000, 1.0)) * (1.08 - 0.25 * np.minimum(radius, 1.3) ** 2)
        hu[index] += cup * body + grain[index] * strength


def _add_objects(hu: Floats, brain: npt.NDArray[np.bool_], scanner: Scanner, rng: np.random.Generator) -> None:
    """The head rest, and now and then a clip or coil with its streaks."""
    rows, cols = hu.shape[1:]
    pixel_mm = scanner.field_mm / rows
    if scanner.rest:
        solid = np.flatnonzero((hu[:, :, cols // 3 : -(cols // 3)] > -300).any(axis=(0, 2)))
        back_mm = (float(solid.max()) - rows / 2) * pixel_mm if solid.size else 100.0
        rest = head_rest((rows, cols), pixel_mm, back_mm, rng)
        there = np.isfinite(rest) & (hu < -300)
        hu[there] = (hu + 1000 + np.nan_to_num(rest))[there]
    if rng.random() < 0.025 and brain.any():
        index, row, col = (int(v) for v in rng.choice(np.argwhere(brain[:: max(1, len(brain) // 8)])))
        index *= max(1, len(brain) // 8)
        for offset, weight in ((-1, 0.3), (0, 1.0), (1, 0.4)):
            if 0 <= index + offset < hu.shape[0]:
                hu[index + offset] += weight * metal_star((rows, cols), pixel_mm, (row, col), rng)

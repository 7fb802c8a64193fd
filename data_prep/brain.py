"""Brain mask of a head CT: the intracranial space, by thresholds, distance transforms and connected components.

1. Soft tissue with bone in most directions of its slice; this excludes scalp, face and head rest.
2. Opening wider than the skull's foramina, which separates orbits and neck; the largest component is the brain.
3. Reconstruction back to the edge of the tissue, holes filled.
4. Growth to the bone: partial-volume voxels of blood or brain and skull belong to the brain.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_prep.volume import Bools, Floats

Box = tuple[slice, slice, slice]

BONE_HU = 180.0
TISSUE_HU = -15.0
FAT_HU = -40.0
BLOOD_HU = 110.0  # upper bound of the density of clots
MIN_DIRECTIONS = 5  # of eight directions with bone; a craniectomy may open three
OPENING_MM = 6.0  # radius of the opening; foramina narrower than twice this are closed
CORNER_MM = 2.0  # extra reach of the reconstruction, into corners
GROW_MM = 3.0  # reach of the growth to the bone, on the coarse grid
FIT_MM = 1.5  # reach of the growth to the bone, on the prepared grid
PEAK_MM = 4.0  # radius in which the peak density of the bone is searched
EDGE_FRACTION = 0.75  # edge between tissue (0) and that peak (1); above 0.5, to keep blood beside the skull
TABLE_HU = 500.0  # a coarse voxel above holds more of the inner table than of the brain: beyond it lies the diploe
MIN_SLICE_MM = 3.0  # thinner slices are averaged in groups


def brain_mask(hu: Floats, spacing_mm: tuple[float, float, float]) -> Bools:
    """Mask of everything inside the skull: brain, fluid, vessels and blood.

    Args:
        hu: [slice, row, col] HU of the whole head in the canonical orientation, pixels of about 2 mm.
        spacing_mm: (slice, row, col).

    Returns:
        Mask [slice, row, col]; all False if no brain was found.
    """
    group = max(1, round(MIN_SLICE_MM / spacing_mm[0]))
    if group > 1:
        starts = np.arange(0, len(hu), group)
        counts = np.diff(np.append(starts, len(hu)))
        thick = np.add.reduceat(hu, starts, axis=0) / counts[:, None, None]
        found = brain_mask(thick.astype(np.float32), (spacing_mm[0] * group, *spacing_mm[1:]))
        return grow_to_bone(hu, np.repeat(found, counts, axis=0), spacing_mm)
    brain = np.zeros(hu.shape, bool)
    box = _bounding_box(hu > BONE_HU, 0)
    if box is not None:
        brain[box] = _brain_in(hu[box], spacing_mm)
    return brain


def _brain_in(hu: Floats, spacing_mm: tuple[float, float, float]) -> Bools:
    """The four steps, on the bounding box of all bone."""
    bone = hu > BONE_HU
    smooth = ndimage.gaussian_filter(np.clip(hu, -200, 600), [0.0, 1.5 / spacing_mm[1], 1.5 / spacing_mm[2]])
    tissue = (smooth > TISSUE_HU) & ~bone & (_bone_directions(bone) >= MIN_DIRECTIONS)
    core = _largest_component(ndimage.distance_transform_edt(tissue, sampling=spacing_mm) > OPENING_MM)
    if not core.any():
        return core
    reach_mm = OPENING_MM + CORNER_MM
    brain = _fill_holes(
        _largest_component(tissue & (ndimage.distance_transform_edt(~core, sampling=spacing_mm) <= reach_mm))
    )
    return grow_to_bone(hu, brain, spacing_mm)


def grow_to_bone(hu: Floats, brain: Bools, spacing_mm: tuple[float, float, float]) -> Bools:
    """Grows a brain mask into the partial-volume voxels beside the bone.

    Args:
        hu: [slice, row, col]
        brain: Mask of the same shape; its edge may be a few mm too far inside.
        spacing_mm: (slice, row, col).
    """
    slices, rows, cols = hu.shape
    whole = (slice(0, slices), slice(0, rows), slice(0, cols))
    inner = _inside_of_bone(hu, spacing_mm, whole) & (hu < TABLE_HU) | brain
    # one step also to the slices above and below, which may contain only a thin layer
    grown = ndimage.binary_dilation(brain, ndimage.generate_binary_structure(3, 1), mask=inner)
    return _fill_holes(_dilate(grown, inner, GROW_MM, spacing_mm))


def fit_to_bone(hu: Floats, brain: Bools, spacing_mm: tuple[float, float, float]) -> Bools:
    """Refines a brain mask from a coarser grid along the bone.

    Args:
        hu: [slice, row, col]
        brain: Mask of the same shape; its edge may be off by a pixel of the coarser grid.
        spacing_mm: (slice, row, col).
    """
    fitted = np.zeros(brain.shape, bool)
    reach_px = int(np.ceil(max(FIT_MM, GROW_MM) / min(spacing_mm[1:]))) + 1
    box = _bounding_box(brain, reach_px)
    if box is not None:  # the edge cannot move farther than the margin of the box
        inner = _inside_of_bone(hu, spacing_mm, box)
        fitted[box] = _fill_holes(_dilate(brain[box] & inner, inner, FIT_MM, spacing_mm))
    return fitted


def _inside_of_bone(hu: Floats, spacing_mm: tuple[float, float, float], box: Box) -> Bools:
    """Voxels of a box with a bone fraction below `EDGE_FRACTION`, by the densest bone nearby, without air and fat."""
    reach = max(1, round(PEAK_MM / spacing_mm[1]))
    slices, *plane = box
    around = tuple(slice(max(0, part.start - reach), part.stop + reach) for part in plane)
    inside = tuple(
        slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(plane, around, strict=True)
    )
    peak = np.stack([_maximum_filter(image, reach)[inside] for image in hu[slices, *around]])
    values = hu[box]
    return np.asarray((values < np.maximum(EDGE_FRACTION * (peak - 40) + 40, BLOOD_HU)) & (values > FAT_HU))


def _maximum_filter(image: Floats, reach: int) -> Floats:
    """Maximum [row, col] over the square around each pixel, `reach` pixels to each side.

    Same result as `scipy.ndimage.maximum_filter`, five times as fast: combines maxima of 1, 2, 4, … pixels.
    """
    for _ in range(2):  # along the rows, then along the columns
        image = np.pad(image.T, [(reach, reach), (0, 0)], constant_values=-np.inf)
        covered, width = 1, 2 * reach + 1
        while covered < width:
            step = min(covered, width - covered)
            image = np.maximum(image[:-step], image[step:])
            covered += step
    return image


def _dilate(mask: Bools, into: Bools, reach_mm: float, spacing_mm: tuple[float, float, float]) -> Bools:
    """Dilates a mask by `reach_mm` in the plane of the slices, only into the mask `into`."""
    flat = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]
    steps = max(1, round(reach_mm / spacing_mm[1]))
    return np.asarray(ndimage.binary_dilation(mask, flat, iterations=steps, mask=into))


def _bone_directions(bone: Bools) -> npt.NDArray[np.int8]:
    """Number of the eight directions of its slice in which a voxel has bone. [slice, row, col] 0..8"""
    directions = np.zeros(bone.shape, np.int8)
    for axis in (1, 2):
        directions += _sides_with(bone, axis)
    slices, rows, cols = bone.shape
    index = np.arange(rows)[:, None]
    for shift in (index, rows - 1 - index):  # diagonals become columns when each row is shifted by its number
        position = np.arange(cols)[None] + shift
        sheared = np.zeros((slices, rows, rows + cols - 1), bool)
        sheared[:, index, position] = bone
        directions += _sides_with(sheared, 1)[:, index, position]
    return directions


def _sides_with(bone: Bools, axis: int) -> npt.NDArray[np.int8]:
    """Number of sides along an axis on which a voxel has bone: 0, 1 or 2."""
    before = np.logical_or.accumulate(bone, axis=axis).view(np.int8)
    after = np.flip(np.logical_or.accumulate(np.flip(bone, axis), axis=axis), axis).view(np.int8)
    return np.asarray(before + after, np.int8)


def _bounding_box(mask: Bools, margin_px: int) -> Box | None:
    """Bounding box of a mask in the plane of the slices, with a margin; None if the mask is empty."""
    if not mask.any():
        return None
    shadow = np.asarray(mask.any(axis=0))
    ends = [(int(at[0]), int(at[-1]) + 1) for at in (np.flatnonzero(shadow.any(axis=axis)) for axis in (1, 0))]
    rows, cols = (slice(max(0, low - margin_px), high + margin_px) for low, high in ends)
    return slice(0, len(mask)), rows, cols


def _largest_component(mask: Bools) -> Bools:
    """Largest 6-connected component of a mask."""
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == int(np.argmax(sizes)))


def _fill_holes(mask: Bools) -> Bools:
    """Fills the holes of a mask, slice by slice."""
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    parts, _ = ndimage.label(~mask, flat)
    rim = np.unique(np.concatenate([parts[:, [0, -1]].ravel(), parts[:, :, [0, -1]].ravel()]))
    outside = np.zeros(int(parts.max()) + 1, bool)
    outside[rim] = True
    outside[0] = False
    return ~outside[parts]

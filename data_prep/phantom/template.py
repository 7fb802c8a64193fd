"""The template head, from the ICBM 2009a template: tissue fractions, intracranial cavity, ventricles, dura.

The template is skull-stripped, so the skull's inner table is the closed and slightly widened brain surface, with the
basal cisterns added and the petrous bones, the sphenoid wings and the clivus cut out.

Source: Fonov et al. 2011, NeuroImage 54(1):313-327, as bundled with nilearn (no download).
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from data_prep.phantom.painting_grid import (
    ORIGIN_MM,
    SHAPE,
    SIGNS,
    STEP_MM,
    Bools,
    Floats,
    Point,
    axes_mm,
    ellipsoid,
    tube,
)
from hgisam.errors import InputError

INSIDE_MM = 0.75  # voxels of the cavity, with half a voxel beyond its edge
WIDEST_GAP_MM = 3.0  # between the brain and the inner table; patients have less
TEMPLATE_ORIGIN_MM = (-72.0, -134.0, -98.0)  # z, y, x of the first template voxel; 1 mm pitch

CISTERNS: tuple[tuple[Point, Point], ...] = (
    ((0, 1, -17), (15, 13, 8)),  # suprasellar
    ((0, -14, -30), (12, 6, 16)),  # prepontine
    ((0, -30, -54), (14, 10, 12)),  # premedullary
    ((0, -68, -58), (16, 14, 10)),  # cisterna magna
    ((0, -36, -4), (20, 10, 10)),  # quadrigeminal and ambient
)
BONES_INTO_CAVITY: tuple[tuple[Point, Point, float, float], ...] = (  # start, end, radius there, mirrored in x
    ((13, -17, -37), (60, -42, -34), 5.0, 10.0),  # petrous ridge
    ((8, 6, -25), (50, 22, -12), 3.0, 3.0),  # lesser and greater sphenoid wing
    ((7, -7, -23), (8, -7, -30), 1.6, 2.4),  # posterior clinoids and dorsum sellae
    ((0, -9, -34), (0, -20, -54), 3.0, 6.0),  # clivus
)


@dataclass(frozen=True)
class Template:
    """Maps of the template head: volumes are float32 on the painting grid, `*_in` only the voxels `inside`.

    Attributes:
        outside_mm: Signed distance to the inner table, positive outside the cavity.
        inside: Flat indices of the voxels in the cavity, including half a voxel beyond its edge. [N]
        xyz_in: Position of those voxels in mm. [N, 3]
        depth_in: Depth below the inner table in mm. [N]
        grey_in: Grey matter as a fraction of grey and white. [N]
        csf_in: Fluid fraction of the template, blurred by its averaging. [N]
        ventricle_mm_in: Signed distance to the ventricles, positive outside. [N]
        normal_in: Outward unit normal of the inner table nearby, (x, y, z). [N, 3]
        tentorium_mm_in: Height above the surface of the tentorium; any large value far from it. [N]
    """

    outside_mm: Floats
    inside: np.ndarray[tuple[int], np.dtype[np.intp]]
    xyz_in: Floats
    depth_in: Floats
    grey_in: Floats
    csf_in: Floats
    ventricle_mm_in: Floats
    normal_in: Floats
    tentorium_mm_in: Floats


def _resampled(name: str) -> Floats:
    """One template map, 0..1, on the painting grid. [Z, Y, X]"""
    spec = find_spec("nilearn")  # located, not imported: its import takes seconds
    if spec is None or spec.origin is None:
        raise InputError("package nilearn", "not installed", "its bundled ICBM template", "pip install 'nilearn<0.14'.")
    folder = Path(spec.origin).parent / "datasets" / "data"
    file = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    image: Any = nib.load(file)
    volume = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0) / 255
    offset = [(o - t) for o, t in zip(ORIGIN_MM, TEMPLATE_ORIGIN_MM, strict=True)]
    return ndimage.affine_transform(
        volume, np.diag([STEP_MM * s for s in SIGNS]), offset, output_shape=SHAPE, order=1, output=np.float32
    )


def signed_distance(mask: Bools, smooth_mm: float = 1.0) -> Floats:
    """Signed distance to the surface of a mask in mm, positive outside."""
    distance = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    distance -= np.sign(distance) * 0.5
    return ndimage.gaussian_filter(distance.astype(np.float32) * STEP_MM, smooth_mm / STEP_MM)


def mirrored(point: Point, side: int) -> Point:
    """The point on the given side: +1 the patient's right, -1 the left."""
    return point[0] * side, point[1], point[2]


def _cavity(brain: Bools) -> Bools:
    """Mask [Z, Y, X] of the intracranial cavity."""
    from_brain = ndimage.distance_transform_edt(~brain) * STEP_MM
    cavity = ndimage.distance_transform_edt(from_brain < 9) * STEP_MM > 9 - WIDEST_GAP_MM
    cavity |= _dome(brain)
    for centre, radii in CISTERNS:
        where, norm = ellipsoid(centre, radii)
        cavity[where] |= norm < 1
    x, y, z = axes_mm()
    cavity |= (x**2 + (y + 46) ** 2 < 11**2) & (z < -58)  # foramen magnum and spinal canal
    for start, end, radius, end_radius in BONES_INTO_CAVITY:
        for side in (1, -1):
            where, distance, along = tube(mirrored(start, side), mirrored(end, side))
            bone = distance < radius + (end_radius - radius) * along
            cavity[where] &= ~(bone & (from_brain[where] > 0.8))
    smooth = ndimage.gaussian_filter(cavity.astype(np.float32), 2.0 / STEP_MM) > 0.5
    return smooth | (from_brain < 0.5)


def _dome(brain: Bools) -> Bools:
    """The upper half of the brain with the interhemispheric fissure closed, by a ball as wide as the vault."""
    pad, pitch, radius = 24, 2 * STEP_MM, 60.0  # half the resolution is enough for a smooth shape
    coarse = np.pad(brain[::2, ::2, ::2], pad)
    near = ndimage.distance_transform_edt(~coarse) * pitch < radius
    closed = (ndimage.distance_transform_edt(near) * pitch > radius - 1.5)[pad:-pad, pad:-pad, pad:-pad]
    dome = closed.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return dome & (axes_mm()[2] > 36)


def _ventricles(csf: Floats, cavity_depth: Floats) -> Bools:
    """Lateral, third and fourth ventricles: deep fluid inside boxes that exclude fissures and cisterns."""
    x, y, z = axes_mm()
    across = np.abs(x)
    body = (across > 2) & (across < 32) & (y > -62) & (y < 42) & (z > -2) & (z < 34)
    body &= ~((across < 14) & (y < -34) & (z < 12)) & ~((across > 20) & (y > -22))
    trigone = (across > 16) & (across < 38) & (y > -92) & (y < -28) & (z > -12) & (z < 24) & (cavity_depth > 22)
    temporal_horn = (across > 24) & (across < 42) & (y > -42) & (y < -6) & (z > -26) & (z < -2) & (cavity_depth > 22)
    third = (across < 5) & (y > -30) & (y < 4) & (z > -12) & (z < 9)
    fourth = (across < 14) & (y > -58) & (y < -34) & (z > -46) & (z < -21)
    deep = (csf > 0.35) & (body | trigone | temporal_horn | third | fourth)
    labels, _ = ndimage.label(deep, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.isin(labels, np.flatnonzero(sizes * STEP_MM**3 > 150))


def tentorium_height_mm(x: Floats, y: Floats) -> Floats:
    """Height z of the tentorium: a ridge along the straight sinus, lower on both sides."""
    return 4.0 + 0.38 * (y + 48) - 0.42 * np.abs(x)


def _tentorium(t1: Floats) -> Floats:
    """Height [Z, Y, X] of every voxel above the tentorium, which is the dark gap over the cerebellum."""
    x, y, z = axes_mm()
    start = tentorium_height_mm(x, y)  # [1, Y, X]
    dark = ndimage.gaussian_filter(t1, 0.7)
    offsets = np.arange(-6, 6.1, 1.5, dtype=np.float32)
    rows = (start[0] - ORIGIN_MM[0]) / STEP_MM
    r, c = np.indices(rows.shape)
    samples = np.stack([ndimage.map_coordinates(dark, [rows + o / STEP_MM, r, c], order=1) for o in offsets])
    best = offsets[np.argmin(samples + 0.004 * np.abs(offsets)[:, None, None], axis=0)]
    height = start[0] + ndimage.gaussian_filter(ndimage.median_filter(best, 5), 2)
    above: Floats = (z - height[None]).astype(np.float32)
    return above


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Reads the bundled template and derives its maps; about two seconds, once per process."""
    t1, grey, white = (_resampled(name) for name in ("t1", "gm", "wm"))
    brain = ndimage.binary_fill_holes(t1 > 0.08)
    x, y, z = axes_mm()
    cord = ndimage.gaussian_filter(((x**2 + (y + 46) ** 2 < 6**2) & (z < -66)).astype(np.float32), 0.7)
    white = np.maximum(white, cord)
    outside_mm = signed_distance(_cavity(brain))
    inside = np.flatnonzero(outside_mm < INSIDE_MM)
    csf = np.clip(1 - grey - white, 0, 1)
    ventricles = _ventricles(csf, -outside_mm)
    box = tuple(slice(s.start - 14, s.stop + 14) for s in ndimage.find_objects(ventricles.astype(np.uint8))[0])
    ventricle_mm = np.full(SHAPE, 20, np.float32)  # farther away the distance does not matter
    ventricle_mm[box] = np.minimum(signed_distance(ventricles[box], 0.8), 20)
    smooth = ndimage.gaussian_filter(outside_mm, 4)
    gradient = np.stack([-np.gradient(smooth, axis=2), -np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)], -1)
    normal = gradient.reshape(-1, 3)[inside]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-3)
    xyz = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)[inside]
    tissue = np.maximum(grey + white, 1e-3)
    return Template(
        outside_mm=outside_mm,
        inside=inside,
        xyz_in=xyz,
        depth_in=-outside_mm.ravel()[inside],
        grey_in=(grey / tissue).ravel()[inside],
        csf_in=csf.ravel()[inside],
        ventricle_mm_in=ventricle_mm.ravel()[inside],
        normal_in=normal.astype(np.float32),
        tentorium_mm_in=_tentorium(t1).ravel()[inside],
    )

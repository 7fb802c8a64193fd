"""The intracranial voxels of one patient, on which bleeds and confounders are painted."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_prep.phantom.anatomy import Build
from data_prep.phantom.painting_grid import ORIGIN_MM, SHAPE, SIGNS, STEP_MM, Floats, Point, smooth_noise
from data_prep.phantom.template import Template

EPIDURAL, INTRAPARENCHYMAL, INTRAVENTRICULAR, SUBARACHNOID, SUBDURAL = 1, 2, 3, 4, 5


@dataclass
class Canvas:
    """The voxels inside the intracranial cavity; arrays are [N] unless stated.

    Attributes:
        hu: Density.
        ventricles, sulci: Fluid fraction in the ventricles, and outside them.
        blood: Fraction of blood.
        kind: Subtype of the bleed, 1-5; 0 for none.
        shift_mm: Displacement field: origin of a voxel's tissue relative to the voxel, (x, y, z). [N, 3]
        squared_mm2: Squared distance of a voxel to the origin of the coordinates.
        volume_scale: Ratio of the patient's volume to the template's.
        bleeds: Subtype, volume in the patient, mean density and age of each bleed so far.
    """

    template: Template
    build: Build
    hu: Floats
    ventricles: Floats
    sulci: Floats
    volume_scale: float
    blood: Floats = field(init=False)
    kind: npt.NDArray[np.uint8] = field(init=False)
    shift_mm: Floats = field(init=False)
    squared_mm2: Floats = field(init=False)
    bleeds: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = self.hu.size
        self.blood, self.kind = np.zeros(n, np.float32), np.zeros(n, np.uint8)
        self.shift_mm = np.zeros((n, 3), np.float32)
        self.squared_mm2 = np.einsum("nk,nk->n", self.template.xyz_in, self.template.xyz_in)

    def noise(self, rng: np.random.Generator, cell_mm: float | tuple[float, float, float]) -> Floats:
        """Smooth noise [N], see `smooth_noise`."""
        return smooth_noise(rng, cell_mm).ravel()[self.template.inside]

    def blend(self, fraction: Floats, hu: Floats | float) -> None:
        """Fills a fraction [N] of each voxel with a density."""
        self.hu += fraction * (hu - self.hu)

    def add_blood(self, kind: int, fraction: Floats, hu: Floats | float, age: str) -> None:
        """Paints a bleed: blends its density, marks its voxels, and appends it to `bleeds`."""
        self.blend(fraction, hu)
        newer = fraction > self.blood
        self.kind[newer] = kind
        self.blood = np.maximum(self.blood, fraction)
        if fraction.sum() > 0:
            self.bleeds.append(
                {
                    "type": kind,
                    "volume_ml": round(float(fraction.sum()) * STEP_MM**3 / 1000 * self.volume_scale, 2),
                    "mean_hu": round(float(np.average(np.broadcast_to(hu, fraction.shape), weights=fraction)), 1),
                    "age": age,
                }
            )

    def displace(self) -> None:
        """Applies the mass effect `shift_mm` to tissue, ventricles and the bleeds painted so far."""
        if not self.shift_mm.any():
            return
        moved = np.flatnonzero(np.abs(self.shift_mm).max(axis=1) > 0.1)
        source = self.template.xyz_in[moved] + self.shift_mm[moved]
        where = [(source[:, 2 - a] - ORIGIN_MM[a]) * SIGNS[a] / STEP_MM for a in range(3)]
        for values in (self.hu, self.blood, self.ventricles, self.sulci):
            volume = np.full(SHAPE, self.build.csf_hu if values is self.hu else 0, np.float32)
            volume.ravel()[self.template.inside] = values
            values[moved] = ndimage.map_coordinates(volume, where, order=1, mode="nearest")
        kinds = np.zeros(SHAPE, np.uint8)
        kinds.ravel()[self.template.inside] = self.kind
        dilated = np.where(kinds > 0, kinds, ndimage.grey_dilation(kinds, (3, 3, 3))) if kinds.any() else kinds
        self.kind[moved] = ndimage.map_coordinates(dilated, where, order=0, mode="nearest")
        self.kind[self.blood <= 0] = 0

    def distance_mm(self, point: Point) -> Floats:
        """Distance [N] of every voxel to a point."""
        p = np.asarray(point, np.float32)
        return np.sqrt(np.maximum(self.squared_mm2 - 2 * (self.template.xyz_in @ p) + p @ p, 0))

    def distance_to_line_mm(self, start: Point, end: Point) -> Floats:
        """Distance [N] of every voxel to the line from `start` to `end`."""
        a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
        length = np.linalg.norm(b - a)
        unit = (b - a) / length
        along = self.template.xyz_in @ unit - a @ unit
        nearest = np.clip(along, 0, length)
        return np.asarray(np.sqrt(np.maximum(self.distance_mm(start) ** 2 - 2 * nearest * along + nearest**2, 0)))

    def surface_point(self, near: Point) -> tuple[Floats, Floats]:
        """Point of the inner table nearest to `near`, and the outward normal at it."""
        rim = np.flatnonzero(np.abs(self.template.depth_in) < 1)
        gap = np.linalg.norm(self.template.xyz_in[rim] - np.asarray(near, np.float32), axis=1)
        best = rim[int(np.argmin(gap))]
        return self.template.xyz_in[best], self.template.normal_in[best]

    def voxels(self, volume_ml: float) -> int:
        """Number of voxels of a volume in the patient, at least 1."""
        return max(1, round(volume_ml * 1000 / self.volume_scale / STEP_MM**3))


def fill_lowest(field_mm: Floats, allowed: npt.NDArray[np.bool_], count: int) -> tuple[Floats, float]:
    """Fraction [N], with soft edges, of the `count` allowed voxels where a field is lowest; and its level there."""
    candidates = field_mm[allowed]
    if candidates.size == 0:
        return np.zeros(field_mm.shape, np.float32), 0.0
    level = float(np.partition(candidates, min(count, candidates.size) - 1)[min(count, candidates.size) - 1])
    fraction = np.clip(0.5 - (field_mm - level) / STEP_MM, 0, 1) * allowed
    return fraction.astype(np.float32), level

"""From a study's own pixels onto the prepared grid: square pixels, one field of view for all, centred on the head."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from data_prep.volume import AIR_HU, Bools, Coordinates, Floats, Masks, Volume


@dataclass(frozen=True)
class Grid:
    """Square pixels in the plane of the slices; mm count from the first pixel's centre of the lowest slice.

    Attributes:
        rows: Pixels along a column.
        cols: Pixels along a row.
        pixel_mm: Pitch along both.
        row0_mm: Centre of the first row.
        col0_mm: Centre of the first column.
    """

    rows: int
    cols: int
    pixel_mm: float
    row0_mm: float
    col0_mm: float

    @classmethod
    def centred(cls, centre_mm: tuple[float, float], size_px: int, pixel_mm: float) -> "Grid":
        """The square grid whose middle is at (row, col) mm."""
        reach = (size_px - 1) / 2 * pixel_mm
        return cls(size_px, size_px, pixel_mm, centre_mm[0] - reach, centre_mm[1] - reach)

    @classmethod
    def covering(cls, volume: Volume, pixel_mm: float) -> "Grid":
        """The grid that holds every pixel of every slice, at `pixel_mm` or the native pitch, whichever is coarser."""
        pixel_mm = max(pixel_mm, volume.row_mm, volume.col_mm)
        pitch = np.array([volume.row_mm, volume.col_mm])
        low = (volume.drift_px.min(axis=0) - 0.5) * pitch
        high = (volume.drift_px.max(axis=0) + np.array(volume.hu.shape[1:]) - 0.5) * pitch
        rows, cols = np.maximum(np.ceil((high - low) / pixel_mm - 1e-6).astype(int), 1)
        first = (low + high) / 2 - (np.array([rows, cols]) - 1) / 2 * pixel_mm
        return cls(int(rows), int(cols), pixel_mm, float(first[0]), float(first[1]))

    def native(self, volume: Volume) -> tuple[Coordinates, float, float]:
        """Where the grid lies on the native pixels: first (row, col) of each slice [slice, 2], row and column step."""
        first = np.array([self.row0_mm / volume.row_mm, self.col0_mm / volume.col_mm]) - volume.drift_px
        return first, self.pixel_mm / volume.row_mm, self.pixel_mm / volume.col_mm


def pixel_weights(first: float, step: float, count: int, native: int) -> sparse.csr_array:
    """[count, native] weights with which native pixels make the pixels of the grid along one axis.

    Where the grid is coarser, a pixel is the mean over the length that it covers (noise averages, nothing is skipped);
    where it is finer, linear interpolation. What lies outside the native image has no weight: rows may sum to less
    than 1.
    """
    centre = first + step * np.arange(count)[:, None]  # [count, 1] in native pixels
    reach = max(step, 1.0)
    lowest = np.floor(centre - reach / 2 - 0.5).astype(int)
    index = lowest + np.arange(int(np.ceil(reach)) + 3)[None]  # [count, taps]
    if step >= 1:
        overlap = np.minimum(centre + step / 2, index + 0.5) - np.maximum(centre - step / 2, index - 0.5)
        weight = np.clip(overlap, 0, None) / step
    else:
        weight = np.clip(1 - np.abs(index - centre), 0, None)
    keep = (weight > 1e-9) & (index >= 0) & (index < native)
    starts = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    return sparse.csr_array((weight[keep].astype(np.float32), index[keep], starts), shape=(count, native))


class Resampler:
    """Carries slices of one study onto one grid; sparse products, so that the result is the same on every machine."""

    def __init__(self, volume: Volume, grid: Grid) -> None:
        self.volume, self.grid = volume, grid
        self.first, self.step_row, self.step_col = grid.native(volume)
        self._weights: dict[tuple[float, float], tuple[sparse.csr_array, sparse.csr_array]] = {}

    def weights(self, index: int) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Row and column weights of a slice."""
        key = (round(float(self.first[index, 0]), 6), round(float(self.first[index, 1]), 6))
        if key not in self._weights:
            _, rows, cols = self.volume.hu.shape
            self._weights[key] = (
                pixel_weights(key[0], self.step_row, self.grid.rows, rows),
                pixel_weights(key[1], self.step_col, self.grid.cols, cols),
            )
        return self._weights[key]

    def image(self, image: Floats, index: int) -> Floats:
        """A native image [row, col] of slice `index` on the grid; outside it is 0."""
        by_row, by_col = self.weights(index)
        return np.ascontiguousarray((by_col @ (by_row @ image).T).T)

    def mask(self, masks: Bools) -> Bools:
        """Native masks [slice, row, col] on the grid: pixels of which at least half is filled."""
        out = np.zeros((len(masks), self.grid.rows, self.grid.cols), bool)
        for index in np.flatnonzero(masks.any(axis=(1, 2))):
            out[index] = self._share(masks[index], int(index)) >= 0.5 - 1e-6
        return out

    def hu(self) -> Floats:
        """[slice, rows, cols] HU, `AIR_HU` outside the native images."""
        out = np.empty((len(self.volume.hu), self.grid.rows, self.grid.cols), np.float32)
        for index, image in enumerate(self.volume.hu):
            out[index] = self.image(image - AIR_HU, index) + AIR_HU
        return out

    def lesion(self) -> Masks:
        """[slice, rows, cols] values of `MASK_VALUES`: pixels of which at least half bleeds, each of its largest type.

        A lesion (26-connected in the native volume) that would vanish by that rule keeps the one pixel that holds most
        of it, so that no lesion is lost; it is drawn larger than it is. A lesion outside the field is lost.
        """
        mask = self.volume.mask
        if mask is None:
            raise ValueError("a study without a mask")
        out = self.mask(mask > 0)
        components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        for number, (slices, rows, cols) in enumerate(ndimage.find_objects(components), start=1):
            self._keep_one_pixel(out, components, number, (slices, rows, cols))
        typed = np.zeros(out.shape, np.uint8)
        for index in np.flatnonzero(out.any(axis=(1, 2))):
            kinds = np.unique(mask[index][mask[index] > 0])
            largest = np.argmax([self._share(mask[index] == kind, int(index)) for kind in kinds], axis=0)
            typed[index] = np.where(out[index], kinds[largest], 0)
        return typed

    def _share(self, part: Bools, index: int) -> Floats:
        """Share of each pixel of the grid that a part of slice `index` fills."""
        return self.image(part.astype(np.float32), index)

    def _keep_one_pixel(
        self, out: Bools, components: npt.NDArray[Any], number: int, box: tuple[slice, slice, slice]
    ) -> None:
        best, place = 0.0, (0, 0, 0)
        for index in range(box[0].start, box[0].stop):
            by_row, by_col = self.weights(index)
            part = (components[index, box[1], box[2]] == number).astype(np.float32)
            share = (by_col[:, box[2]] @ (by_row[:, box[1]] @ part).T).T
            if (out[index] & (share > 0)).any():
                return
            where = np.unravel_index(np.argmax(share), share.shape)
            if share[where] > best:
                best, place = float(share[where]), (index, int(where[0]), int(where[1]))
        if best > 0:
            out[place] = True

    def lost_fraction_of_lesion(self) -> float:
        """Fraction of the native lesion that lies outside the grid's field."""
        mask = self.volume.mask
        if mask is None or not mask.any():
            return 0.0
        inside = 0.0
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            inside += float(self._share(mask[index] > 0, int(index)).sum())
        return max(0.0, 1 - inside * self.step_row * self.step_col / float((mask > 0).sum()))

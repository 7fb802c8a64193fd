"""Resampling of a study to the prepared grid: square pixels, one field of view for all, centred on the brain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from data_prep.volume import AIR_HU, Bools, Coordinates, Floats, Masks, Volume


@dataclass(frozen=True)
class Grid:
    """A grid of square pixels in the plane of the slices; mm count from the first pixel's centre of the lowest slice.

    Attributes:
        rows: Number of rows.
        cols: Number of columns.
        pixel_mm: Pixel pitch along rows and columns.
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
        """The square grid with its centre at (row, col) mm."""
        reach = (size_px - 1) / 2 * pixel_mm
        return cls(size_px, size_px, pixel_mm, centre_mm[0] - reach, centre_mm[1] - reach)

    @classmethod
    def covering(cls, volume: Volume, pixel_mm: float) -> "Grid":
        """The grid that covers every pixel of every slice, at `pixel_mm` or the native pitch, whichever is coarser."""
        pixel_mm = max(pixel_mm, volume.row_mm, volume.col_mm)
        pitch = np.array([volume.row_mm, volume.col_mm])
        low = (volume.drift_px.min(axis=0) - 0.5) * pitch
        high = (volume.drift_px.max(axis=0) + np.array(volume.hu.shape[1:]) - 0.5) * pitch
        rows, cols = np.maximum(np.ceil((high - low) / pixel_mm - 1e-6).astype(int), 1)
        first = (low + high) / 2 - (np.array([rows, cols]) - 1) / 2 * pixel_mm
        return cls(int(rows), int(cols), pixel_mm, float(first[0]), float(first[1]))

    def native(self, volume: Volume) -> tuple[Coordinates, float, float]:
        """The grid in native pixels: first (row, col) of each slice [slice, 2], row step and column step."""
        first = np.array([self.row0_mm / volume.row_mm, self.col0_mm / volume.col_mm]) - volume.drift_px
        return first, self.pixel_mm / volume.row_mm, self.pixel_mm / volume.col_mm


def pixel_weights(first: float, step: float, count: int, native: int) -> sparse.csr_array:
    """Resampling weights [count, native] along one axis.

    Area averaging on a coarser grid, which reduces noise and skips no pixel; linear interpolation on a finer one.
    Positions outside the native image have no weight, so rows may sum to less than 1.

    Args:
        first: First pixel's centre, in native pixels.
        step: Pixel pitch, in native pixels.
        count: Number of pixels of the grid.
        native: Number of native pixels.
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


def to_native(
    images: Floats, first: Coordinates, steps: tuple[float, float], shape: tuple[int, int]
) -> Iterator[Floats]:
    """Each prepared slice on its native pixels [row, col], one after the other: the inverse of a `Resampler`.

    Linear interpolation where native pixels are finer than the grid, area averaging where they are coarser; 0 outside
    of the grid.

    Args:
        images: [slice, px, px]
        first: [slice, 2] first pixel of the grid in native pixels (row, col), see `Grid.native`.
        steps: Row and column step of the grid in native pixels.
        shape: Native rows and columns.
    """
    for image, start in zip(images, first, strict=True):
        by_row, by_col = (
            pixel_weights(-at / step, 1 / step, count, px)
            for at, step, count, px in zip(start, steps, shape, image.shape, strict=True)
        )
        yield np.asarray((by_col @ (by_row @ image).T).T, np.float32)


class Resampler:
    """Resamples the slices of one study to one grid; sparse products give the same result on every machine."""

    def __init__(self, volume: Volume, grid: Grid) -> None:
        self.volume, self.grid = volume, grid
        self.first, self.step_row, self.step_col = grid.native(volume)
        self._weights: dict[tuple[float, float], tuple[sparse.csr_array, sparse.csr_array]] = {}

    def weights(self, index: int) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Row and column weights of a slice, see `pixel_weights`."""
        key = (round(float(self.first[index, 0]), 6), round(float(self.first[index, 1]), 6))
        if key not in self._weights:
            _, rows, cols = self.volume.hu.shape
            self._weights[key] = (
                pixel_weights(key[0], self.step_row, self.grid.rows, rows),
                pixel_weights(key[1], self.step_col, self.grid.cols, cols),
            )
        return self._weights[key]

    def image(self, image: Floats, index: int) -> Floats:
        """A native image [row, col] of slice `index` on the grid; 0 outside the image."""
        by_row, by_col = self.weights(index)
        return np.ascontiguousarray((by_col @ (by_row @ image).T).T)

    def mask(self, masks: Bools) -> Bools:
        """Native masks [slice, row, col] on the grid: pixels of which at least half is in the mask."""
        out = np.zeros((len(masks), self.grid.rows, self.grid.cols), bool)
        for index in np.flatnonzero(masks.any(axis=(1, 2))):
            out[index] = self._fraction(masks[index], int(index)) >= 0.5 - 1e-6
        return out

    def hu(self) -> Floats:
        """HU [slice, row, col] on the grid, `AIR_HU` outside the native images."""
        out = np.empty((len(self.volume.hu), self.grid.rows, self.grid.cols), np.float32)
        for index, image in enumerate(self.volume.hu):
            out[index] = self.image(image - AIR_HU, index) + AIR_HU
        return out

    def lesion(self) -> Masks:
        """Mask [slice, row, col] on the grid, values of `MASK_VALUES`.

        A pixel belongs to the mask if at least half of it bleeds; its value is the subtype with the largest part. A
        lesion (26-connected in the native volume) that would vanish keeps the one pixel with most of it, so that no
        lesion is lost; the mask then overestimates its area. A lesion outside the field of view is lost.
        """
        mask = self.volume.mask
        if mask is None:
            raise ValueError("a study without a mask")
        out = self.mask(mask > 0)
        components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        for number, (slices, rows, cols) in enumerate(ndimage.find_objects(components), start=1):
            self._keep_one_pixel(out, components, number, (slices, rows, cols))
        subtypes = np.zeros(out.shape, np.uint8)
        for index in np.flatnonzero(out.any(axis=(1, 2))):
            kinds = np.unique(mask[index][mask[index] > 0])
            largest = np.argmax([self._fraction(mask[index] == kind, int(index)) for kind in kinds], axis=0)
            subtypes[index] = np.where(out[index], kinds[largest], 0)
        return subtypes

    def _fraction(self, part: Bools, index: int) -> Floats:
        """Fraction of each grid pixel that a mask [row, col] of slice `index` covers."""
        return self.image(part.astype(np.float32), index)

    def _keep_one_pixel(
        self, out: Bools, components: npt.NDArray[Any], number: int, box: tuple[slice, slice, slice]
    ) -> None:
        """Adds to `out` the pixel with most of lesion `number`, unless the lesion has a pixel there already."""
        best, best_at = 0.0, (0, 0, 0)
        for index in range(box[0].start, box[0].stop):
            by_row, by_col = self.weights(index)
            part = (components[index, box[1], box[2]] == number).astype(np.float32)
            share = (by_col[:, box[2]] @ (by_row[:, box[1]] @ part).T).T
            if (out[index] & (share > 0)).any():
                return
            where = np.unravel_index(np.argmax(share), share.shape)
            if share[where] > best:
                best, best_at = float(share[where]), (index, int(where[0]), int(where[1]))
        if best > 0:
            out[best_at] = True

    def lost_fraction_of_lesion(self) -> float:
        """Fraction of the native lesion outside the grid's field of view."""
        mask = self.volume.mask
        if mask is None or not mask.any():
            return 0.0
        inside = 0.0
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            inside += float(self._fraction(mask[index] > 0, int(index)).sum())
        return max(0.0, 1 - inside * self.step_row * self.step_col / float((mask > 0).sum()))

"""Parallel-beam projection and filtered back projection of slices on a coarse grid, as one sparse matrix.

What water correction and photon noise leave in an image is smooth, so a grid of a few millimetres is enough for it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, sparse

from data_prep.phantom.painting_grid import Floats

SUBPIXELS = 3  # per side: the shadow of a pixel is nearly that of a square


@dataclass(frozen=True)
class Projector:
    """Line integrals of slices and their back projection.

    Attributes:
        matrix: [view · detector, row · col] length of each ray in each pixel, in pixels.
        size: Pixels along a side of a slice, and detectors of a view.
        views: Directions over half a turn.
    """

    matrix: sparse.csr_array
    size: int
    views: int

    def project(self, slices: Floats) -> Floats:
        """Line integrals [view, detector, slice] of slices [slice, row, col], in units of the slice times a pixel."""
        columns = slices.reshape(len(slices), -1).T
        return np.asarray((self.matrix @ columns).reshape(self.views, self.size, -1))

    def reconstruct(self, sinogram: Floats) -> Floats:
        """Filtered back projection (Ram-Lak) of a sinogram [view, detector, slice] to slices [slice, row, col]."""
        padded = 2 * fft.next_fast_len(self.size, real=True)
        distance = np.minimum(np.arange(padded), padded - np.arange(padded))
        ramp = np.zeros(padded)  # of the band-limited filter in space, which keeps the mean right
        ramp[0] = 0.25
        odd = distance % 2 == 1
        ramp[odd] = -1 / (np.pi * distance[odd]) ** 2
        spectrum = fft.rfft(sinogram, padded, axis=1) * fft.rfft(ramp).real.astype(np.float32)[:, None]
        filtered = fft.irfft(spectrum, padded, axis=1)[:, : self.size]
        return self.back_project(filtered, slice(None)) * np.float32(np.pi / self.views)

    def back_project(self, sinogram: Floats, views: slice) -> Floats:
        """Sum [slice, row, col] of a sinogram [view, detector, slice] along the rays of some of its views."""
        rows = np.arange(self.views)[views]
        first, last = int(rows[0]) * self.size, (int(rows[-1]) + 1) * self.size
        part = sinogram[views].reshape(last - first, -1)
        summed = self.matrix[first:last].T @ part
        return np.asarray(summed.T.reshape(-1, self.size, self.size))


@lru_cache(maxsize=2)
def projector(size: int, views: int) -> Projector:
    """The projector of slices of `size` × `size` pixels: every pixel is split over the detectors that it falls on.

    Detectors are as wide as pixels; rays beyond the ends of the detector are lost, as where a head is cut by the field.
    """
    fine = SUBPIXELS * size
    middle = (np.arange(fine, dtype=np.float32) - (fine - 1) / 2) / SUBPIXELS
    rows, cols = (grid.ravel() for grid in np.meshgrid(middle, middle, indexing="ij"))
    index = np.arange(fine) // SUBPIXELS
    pixels = np.ravel(index[:, None] * size + index).astype(np.int32)
    parts = []
    for view in range(views):
        angle = np.pi * view / views
        at = np.cos(angle) * cols + np.sin(angle) * rows + (size - 1) / 2
        left = np.floor(at).astype(np.int32)
        inside = (left >= 0) & (left < size - 1)
        left, right_share, pixel = left[inside], (at - np.floor(at))[inside], pixels[inside]
        share = np.concatenate([1 - right_share, right_share]) / SUBPIXELS**2
        at_ray = np.concatenate([left, left + 1]), np.concatenate([pixel, pixel])
        parts.append(sparse.coo_array((share.astype(np.float32), at_ray), shape=(size, size * size)).tocsr())
    return Projector(sparse.vstack(parts, format="csr"), size, views)

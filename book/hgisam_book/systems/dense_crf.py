"""Dense conditional random field (CRF) of a scan: probabilities corrected by all voxels that are near and alike.

Every pair of brain voxels is connected, and mean-field inference passes messages between them by two Gaussian filters:
one in space, the other, bilateral, in space and HU. Both run on a grid, in time linear in the number of voxels.

Source: Krähenbühl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials, NIPS 2011,
    with the bilateral grid of Paris and Durand (IJCV 2009) in place of the permutohedral lattice. Weights and number of
    steps as in the code of FocalSegNet (Rasoulian et al., arXiv 2308.03001).
"""

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array
from scipy.special import expit, logit

Floats = npt.NDArray[np.float32]

# Kernels in physical units, fixed beforehand: no mask chose them. Distances are those of FocalSegNet, 18 and 80 voxels
# of about 0.4 mm. HU in place of its 3 standard deviations of the patch: blood is 20 to 35 HU denser than brain, which
# is four standard deviations and more, and noise of a thick slice is 3 to 5 HU, which is one.
GAUSSIAN_MM, GAUSSIAN_WEIGHT = 7.2, 3.0
BILATERAL_MM, BILATERAL_HU, BILATERAL_WEIGHT = 32.0, 5.0, 9.0
HU_RANGE = (0.0, 100.0)  # of soft tissue and blood; what is beyond is clipped
CELLS_PER_SD = 2.0  # of the grid, per standard deviation of the kernel
# voxels enter and leave the grid by linear interpolation, each of which adds the variance 1/6 of a triangle
BLUR_CELLS = (CELLS_PER_SD**2 - 2 / 6) ** 0.5
CERTAIN = 1e-6  # probabilities are at least so far from 0 and 1


class BilateralGrid:
    """Gaussian filter of values at scattered points, normalised by the sum of the kernel at each point.

    Args:
        points: [n, dimensions], in standard deviations of the kernel.

    Example:
        >>> grid = BilateralGrid(np.array([[0.0], [0.0], [9.0]]))
        >>> grid.mean(np.array([0.0, 1.0, 5.0])).round(3).tolist()
        [0.5, 0.5, 5.0]
    """

    def __init__(self, points: npt.NDArray[np.floating]) -> None:
        at = (points - points.min(axis=0)) * CELLS_PER_SD
        first = np.floor(at).astype(np.int64)
        share = (at - first).astype(np.float32)
        count, dimensions = at.shape
        self.shape = tuple((first.max(axis=0) + 2).tolist())
        corners = list(product((0, 1), repeat=dimensions))
        cells = np.stack([np.ravel_multi_index(tuple((first + corner).T), self.shape) for corner in corners], axis=1)
        weights = np.stack([np.where(corner, share, 1 - share).prod(axis=1) for corner in corners], axis=1)
        ends = np.arange(count + 1) * len(corners)
        self.interpolation = csr_array((weights.ravel(), cells.ravel(), ends), shape=(count, np.prod(self.shape)))
        self.norm = self._sum(np.ones(count, np.float32))

    def mean(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Weighted mean of the values [n] around each point, which counts itself: [n]."""
        return self._sum(values) / self.norm

    def _sum(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        grid = (self.interpolation.T @ values).reshape(self.shape)
        blurred = gaussian_filter(grid, BLUR_CELLS, mode="constant")
        found: npt.NDArray[np.floating] = self.interpolation @ blurred.ravel()
        return found


def dense_crf(
    probability: Floats,
    hu: npt.NDArray[np.number],
    brain: npt.NDArray[np.number],
    position_mm: npt.ArrayLike,
    pixel_mm: float,
    steps: int = 1,
) -> Floats:
    """Probability of a bleed after mean-field inference in the brain of a scan.

    Args:
        probability: Of a network, [slice, row, col] in 0 to 1.
        hu, brain: [slice, row, col]; the brain is 0 outside.
        position_mm: [slice] along the table.
        pixel_mm: Pixel pitch.
        steps: Of mean-field inference; the code of FocalSegNet takes one, though such inference converges in about ten.

    Returns:
        [slice, row, col] in 0 to 1, 0 outside the brain.
    """
    found = np.zeros(probability.shape, np.float32)
    slices, *in_plane = np.nonzero(brain)
    if not len(slices):
        return found
    inside = (slices, *in_plane)
    where = np.column_stack(
        [np.asarray(position_mm, float)[slices], *(np.multiply(side, pixel_mm) for side in in_plane)]
    )
    density = np.clip(hu[inside], *HU_RANGE)[:, None] / BILATERAL_HU
    kernels = (
        (GAUSSIAN_WEIGHT, BilateralGrid(where / GAUSSIAN_MM)),
        (BILATERAL_WEIGHT, BilateralGrid(np.hstack([where / BILATERAL_MM, density]))),
    )
    unary = logit(np.clip(probability[inside].astype(np.float64), CERTAIN, 1 - CERTAIN))
    now = expit(unary)
    for _ in range(steps):  # Potts model of two classes: a voxel pays for the share of the other class around it
        now = expit(unary + sum(weight * (2 * kernel.mean(now) - 1) for weight, kernel in kernels))
    found[inside] = now
    return found

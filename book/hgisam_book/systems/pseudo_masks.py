"""Pseudo-masks without supervision: in the region of a class activation map, the cluster of the densest pixels.

Ramananda and Sundaresan (arXiv 2309.16627) obtain their masks "without supervision"; the abstract does not say how. The
rule and its numbers are our choice, from other papers and from the geometry of the maps. No mask chose them.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.measure import label

from hgisam.data.masked_blur import masked_blur
from hgisam.data.preprocess import BRAIN_HU, MIN_TISSUE, soft_tissue
from hgisam.evaluation.masks import BONE_HU

Bools = npt.NDArray[np.bool_]
REGION = 0.2  # share of the map's maximum that bounds its region, as in Zhou et al., CVPR 2016, for bounding boxes
CLASSES = 3  # fluid, brain and blood
WINDOW_HU = 80  # upper end of the brain window, which starts at 0
SMOOTHING_MM = 1.0  # standard deviation of the Gaussian, as in boxes
PEAK_MM = 17.0  # around the maximum of the map: one cell of the encoder's feature map


def pseudo_masks(
    hu: npt.NDArray[np.int16], brain: npt.NDArray[np.uint8], cam: npt.NDArray[np.floating], pixel_mm: float
) -> Bools:
    """Masks of slices from their maps and HU, all [n, row, col]; empty where a map is.

    The smoothed HU of the soft tissue in the region of the map are clustered by Otsu's method with three classes, which
    is the optimum of k-means in one dimension. The brightest cluster is blood, and so is one that is nearer to it than
    to brain, since a large bleed fills two clusters. Connected parts within reach of the map's maximum remain.

    Args:
        hu, brain: Of a prepared set.
        cam: In 0 to 1.
        pixel_mm: Pixel pitch.

    Source: Liao, Chen and Chung, A fast algorithm for multilevel thresholding, 2001; scikit-image.
    """
    levelled, tissue = (t.numpy() for t in soft_tissue(torch.from_numpy(hu), torch.from_numpy(brain), pixel_mm))
    sigma_px = (0, SMOOTHING_MM / pixel_mm, SMOOTHING_MM / pixel_mm)
    smooth, near = masked_blur(levelled, tissue.astype(np.float32), lambda a: ndimage.gaussian_filter(a, sigma_px))
    inside = (brain > 0) & (hu < BONE_HU) & (near > MIN_TISSUE)
    masks = np.zeros(hu.shape, bool)
    for mask, values, region, of_map in zip(masks, smooth, inside & (cam > 0) & (cam >= REGION), cam, strict=True):
        mask[region] = _blood(values[region])
        mask &= _near_peak(mask, of_map, PEAK_MM / pixel_mm)
    return masks


def _blood(values: npt.NDArray[np.floating]) -> Bools:
    """Which pixels [n] belong to the clusters of blood, of HU whose brain is at `BRAIN_HU`."""
    levels = np.clip(np.rint(values), 0, WINDOW_HU).astype(int)
    counts = np.bincount(levels, minlength=WINDOW_HU + 1)
    if np.count_nonzero(counts) < CLASSES:
        return np.zeros(len(values), bool)
    bins = np.arange(len(counts))
    bounds = threshold_multiotsu(classes=CLASSES, hist=(counts, bins))  # type: ignore[no-untyped-call]
    clusters = np.searchsorted(bounds, levels)  # a bound belongs to the cluster below
    means = np.array([levels[clusters == number].mean() for number in range(CLASSES)])
    blood: Bools = (means[-1] - means < means - BRAIN_HU)[clusters]
    return blood


def _near_peak(mask: Bools, cam: npt.NDArray[np.floating], reach_px: float) -> Bools:
    """The connected parts of a mask [row, col], across corners too, that come within reach of the maximum of a map."""
    around = ndimage.distance_transform_edt(cam < cam.max()) <= reach_px
    parts = label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    near: Bools = np.isin(parts, parts[mask & around])
    return near & mask

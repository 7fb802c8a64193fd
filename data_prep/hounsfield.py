"""Hounsfield units: padding outside the scanned field becomes air, values that can't be HU of a head are found."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_prep.volume import AIR_HU, Bools, Floats

AIR_BELOW_HU, HEAD_ABOVE_HU = -700.0, -300.0
AIR_FRACTION = 0.01  # of a volume that shows the air around a head
TISSUE_HU = (-15.0, 90.0)  # range of the commonest value of a head: brain, scalp, muscle
SCALE_HU = (-300.0, 3000.0)
BIN_HU = 10
DENSE_HU = 300.0  # nothing in the corners of an image is as dense: the head rest is far below
WINDOW_HU = 150.0  # brain, bone and air of a head span more
TISSUE_PLUS_1024 = (960.0, 1160.0)
BONE_HU = (200.0, 900.0)
SAMPLE = 2_000_000  # voxels that decide


def unlike_hu(hu: Floats) -> str | None:
    """Reason why a volume can't be HU of a head; None if it looks like HU, or shows nothing but air.

    The commonest value of everything but air is that of brain and scalp, also where bone has more of a slice: bone has
    no such peak. Missing rescale values, offsets and grey values move it, or lack what a head has: air, or bone.

    Args:
        hu: [slice, row, col], padding already air.
    """
    values = hu.ravel()[:: max(1, hu.size // SAMPLE)]
    low, high = float(values.min()), float(values.max())
    with_air = np.count_nonzero(values < AIR_BELOW_HU) >= AIR_FRACTION * values.size
    head = values[values > (HEAD_ABOVE_HU if with_air else low)]
    if not len(head):
        return None
    if not with_air and low >= 0 and high <= 255 and high > 1 and (values == np.rint(values)).all():
        return f"values are not HU: whole numbers from {low:g} to {high:g} are 8-bit grey values"
    if not with_air and high - low < WINDOW_HU:
        return f"values are not HU: from {low:g} to {high:g} is a window of grey values"
    if not with_air and _is_offset(values):
        return "values are not HU: tissue near 1040 and no air near -1000; subtract the offset, or add RescaleIntercept"
    peak = _peak(head)
    if not TISSUE_HU[0] <= peak <= TISSUE_HU[1]:
        shown = f"most of what is not air is near {peak:.0f}, brain and scalp {TISSUE_HU[0]:g} to {TISSUE_HU[1]:g}"
        return f"values are not HU: {shown}; check offset and slope"
    return None


def _peak(values: Floats) -> float:
    """Highest peak of a histogram, 50 HU wide; values outside of `SCALE_HU` count at its ends."""
    bins = int(SCALE_HU[1] - SCALE_HU[0]) // BIN_HU
    counts, edges = np.histogram(np.clip(values, *SCALE_HU), bins=bins, range=SCALE_HU)
    smooth = ndimage.uniform_filter1d(counts, size=50 // BIN_HU, mode="constant", output=float)
    return float(np.median(edges[:-1][smooth >= smooth.max() - 1e-9])) + BIN_HU / 2


def _is_offset(values: Floats) -> bool:
    """True if values are about HU + 1024: many more near 1040 than between 200 and 900.

    In true HU the range 200 to 900 is bone; with an offset it is almost nothing but the edges of the head.
    """
    tissue, bone = (
        np.count_nonzero((values > low) & (values < high)) for low, high in (TISSUE_PLUS_1024, BONE_HU)
    )  # fmt: skip
    return bool(tissue > 0.05 * values.size and tissue > 2 * bone)


def padding_to_air(hu: Floats) -> bool:
    """Sets padding to air, in place, where no header names it: one dense value that fills the corners of the images.

    Args:
        hu: [slice, row, col].

    Returns:
        True if there was padding.
    """
    corners = hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    values, counts = np.unique(corners, return_counts=True)
    value = values[np.argmax(counts)]
    if value < DENSE_HU or counts.max() < corners.size / 2:
        return False
    hu[hu == value] = AIR_HU
    return True


def stored_padding(pixels: npt.NDArray[Any], first: int, last: int, tissue: Bools) -> Bools:
    """Pixels of a stored image that hold a value of padding.

    A header may give the value unsigned for signed pixels, and the other way round; both are the same bits. Some give a
    value that tissue has too, such as 0: then only what touches the border is padding.

    Args:
        pixels: [row, col] stored values, integers.
        first, last: Values of padding, from PixelPaddingValue and PixelPaddingRangeLimit in any order.
        tissue: [row, col] pixels that may be tissue by their HU.
    """
    size = 2 ** (8 * pixels.dtype.itemsize)
    ends = [value % size for value in (first, last) if -size // 2 <= value < size]
    if np.issubdtype(pixels.dtype, np.signedinteger):
        ends = [value - size if value >= size // 2 else value for value in ends]
    if not ends:
        return np.zeros(pixels.shape, bool)
    padding = np.asarray((pixels >= min(ends)) & (pixels <= max(ends)))
    if (padding & tissue).any():
        parts, _ = ndimage.label(padding)
        outside = np.unique(np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel()]))
        padding &= ~tissue | np.isin(parts, outside)
    return padding

"""Smoothing inside a mask."""

from collections.abc import Callable
from typing import Any


def masked_blur(values: Any, mask: Any, blur: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Normalized convolution: weighted mean of the values inside a mask.

    Args:
        values: Array or tensor of floats, any shape.
        mask: The same shape and type; 1 inside, 0 outside.
        blur: Smooths such an array, e.g. with a Gaussian.

    Returns:
        The mean around each pixel, and the share of the kernel's weight inside the mask. Where that share is below
        0.001 the mean tends to 0.

    Example:
        >>> import numpy as np
        >>> from scipy.ndimage import uniform_filter1d
        >>> mean, share = masked_blur(np.array([1.0, 9, 3]), np.array([1.0, 0, 1]), lambda x: uniform_filter1d(x, 3))
        >>> print(mean[1].round(1), share[1].round(2))
        2.0 0.67

    Source: Knutsson and Westin, Normalized and differential convolution, CVPR 1993.
    """
    weight = blur(mask)
    return blur(values * mask) / weight.clip(min=1e-3), weight

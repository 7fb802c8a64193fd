"""CT windows: the part of the HU scale that a channel, or a reader, sees."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hgisam.config.profile import Window


def apply_windows(hu: Tensor, windows: Sequence[Window]) -> Tensor:
    """Turns HU into channels.

    Args:
        hu: [B, H, W] HU, any real dtype.
        windows: One a channel.

    Returns:
        [B, C, H, W] float32 in [0, 1]: 0 at center - width / 2 and below, 1 at center + width / 2 and above.
    """
    hu = hu.to(torch.float32)
    channels = [(hu - (w.center_hu - w.width_hu / 2)) / w.width_hu for w in windows]
    return torch.stack(channels, dim=1).clamp_(0, 1)


def to_uint8(hu: npt.NDArray[np.number], center_hu: float, width_hu: float) -> npt.NDArray[np.uint8]:
    """Windows HU for display.

    Args:
        hu: HU, any shape.
        center_hu: HU that becomes middle grey.
        width_hu: HU from black to white.

    Returns:
        Grey values 0-255, the shape of `hu`.
    """
    low = center_hu - width_hu / 2
    grey: npt.NDArray[np.uint8] = (np.clip((hu.astype(np.float32) - low) / width_hu, 0, 1) * 255 + 0.5).astype(np.uint8)
    return grey

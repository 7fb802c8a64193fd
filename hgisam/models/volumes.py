"""A small Swin classifier of volumes, for maps in three dimensions."""

from collections.abc import Sequence

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from hgisam.errors import check_choice


class VolumeClassifier(nn.Module):
    """MONAI's Swin transformer in three dimensions, global pooling of its last stage, and a linear head.

    Args:
        channels: Of a volume, one per window.
        classes: Number of logits.
        patch: (slices, rows, cols) of a patch in voxels; thick slices need fewer.
        window: (slices, rows, cols) of an attention window in tokens.
        embed_dim: Channels of the first stage; each further one has twice as many.
        depths, heads: Blocks, and heads of each, of the four stages.
        pool: "max", since a volume bleeds if any part of it does, or "avg".

    Raises:
        InputError: For another pooling.

    Example:
        >>> model = VolumeClassifier(channels=1, classes=2)
        >>> model(torch.zeros(1, 1, 16, 64, 64)).shape  # [B, C, D, H, W]
        torch.Size([1, 2])

    Source: the encoder of Hatamizadeh et al., Swin UNETR, BrainLes 2021; the head is ours.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        patch: Sequence[int] = (1, 4, 4),
        window: Sequence[int] = (4, 4, 4),
        embed_dim: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (2, 4, 8, 16),
        pool: str = "max",
    ) -> None:
        super().__init__()
        check_choice("pool", pool, ("max", "avg"))
        self.swin = SwinTransformer(channels, embed_dim, window, patch, depths, heads)
        self.head = nn.Linear(embed_dim * 2 ** len(depths), classes)
        self.pool = pool

    def forward(self, volumes: Tensor) -> Tensor:
        """Volumes [B, C, D, H, W] → logits [B, classes]."""
        tokens = self.swin(volumes)[-1].flatten(2)
        pooled = tokens.amax(dim=2) if self.pool == "max" else torch.mean(tokens, dim=2)
        logits: Tensor = self.head(pooled)
        return logits

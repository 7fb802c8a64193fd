"""Single attention heads: attention received by every token, before and after the gradient weighs it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from hgisam.attention.gradients import reduce_gradients
from hgisam.attention.swin import BlockAttention, BlockGeometry
from hgisam.maps.combine import attention_received, min_max, to_token_grid
from hgisam.maps.hgi_sam import head_weights


@dataclass(frozen=True)
class HeadMaps:
    """Maps of the heads of one block, on its token grid.

    Attributes:
        received: [B, heads, rows, cols], attention that a token receives in its window; Swin-SAM uses its mean.
        weighted: The same times the weight of the head in that window; HGI-SAM uses its mean over heads.
    """

    received: Tensor
    weighted: Tensor

    def panels(self) -> tuple[Tensor, Tensor]:
        """All heads together, then each: [B, 1 + heads, rows, cols] of received and weighted attention, in [0, 1].

        Received attention is scaled head by head, to show its pattern. Weighted heads share one scale, to show their
        relative strength.
        """
        received = torch.cat([self.received.mean(dim=1, keepdim=True), self.received], dim=1)
        together = min_max(self.weighted.mean(dim=1))[:, None]
        strongest = self.weighted.amax(dim=(1, 2, 3), keepdim=True)
        each = self.weighted / strongest.where(strongest > 0, 1.0)
        return min_max(received.flatten(0, 1)).view_as(received), torch.cat([together, each], dim=1)


def head_maps(
    model: nn.Module, images: Tensor, target: int, *, gradient_at: str = "scores"
) -> dict[BlockGeometry, HeadMaps]:
    """Attention of every head of every block, from one forward and one backward pass.

    Args:
        model: Is or contains one Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit weighs the heads; 0 for a classification head with one logit.
        gradient_at: "scores" or "weights", see `hgi_sam`.

    Returns:
        Block → its heads, in the order of the blocks.

    Raises:
        InputError: For a model, images or options that do not fit, or where no gradient reaches the attention.
    """

    def by_head(block: BlockAttention, gradient: Tensor) -> Tensor:
        received = attention_received(block.attention)  # [B·nW, heads, N]
        weighted = head_weights(gradient)[..., None] * received
        both = torch.stack([received, weighted])  # [2, B·nW, heads, N]
        grids = to_token_grid(rearrange(both, "two w heads n -> (two heads w) n"), block)
        return rearrange(grids, "(two heads b) r c -> two b heads r c", two=2, b=len(images))

    found = reduce_gradients(model, images, target, by_head, stages=None, gradient_at=gradient_at)
    return {block: HeadMaps(*both) for block, both in found.items()}


def contrast(maps: Tensor, truth: Tensor, brain: Tensor) -> Tensor:
    """Contrast of a map: its mean over the bleed divided by its mean over the rest of the brain.

    Args:
        maps: [B, ..., rows, cols] ≥ 0, on a grid that covers the slice.
        truth: [B, H, W], not empty in any slice.
        brain: [B, H, W], 0 outside.

    Returns:
        [B, ...]; 1 for a constant map. Tokens count for each region with the share of it that they cover.
    """
    bleed, rest = ((region > 0).to(maps) for region in (truth, (brain > 0) & ~(truth > 0)))
    rows, cols = maps.shape[-2:]
    means = []
    for region in (bleed, rest):
        share = F.adaptive_avg_pool2d(region[:, None], (rows, cols)).view(-1, *[1] * (maps.ndim - 3), rows, cols)
        means.append((maps * share).sum(dim=(-2, -1)) / share.sum(dim=(-2, -1)))
    return means[0] / means[1]

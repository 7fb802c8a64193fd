"""AblationCAM on Swin: channels weighted by what the logit loses without them. No gradients."""

import torch
from torch import Tensor, nn

from hgisam.attention.gradients import changed_logit
from hgisam.attention.inspection import Logit, upcast
from hgisam.attention.swin import BlockGeometry
from hgisam.maps.combine import min_max, to_unit_range, upsample


def ablation_cam(
    model: nn.Module,
    images: Tensor,
    target: int,
    *,
    brain: Tensor | None = None,
    logit: Logit | None = None,
    stage: int = -1,
    block: int = -1,
    at: str = "output",
    batch_size: int = 32,
) -> Tensor:
    """Channels of one layer, each weighted by the drop of the logit when it is set to 0, summed and rectified.

    Args:
        model, images, target, brain, logit: As in `hgi_sam`.
        stage, block, at: The layer, as in `grad_cam`.
        batch_size: Images per forward pass; there is one image per channel and given image.

    Returns and Raises: those of `grad_cam`.

    Example:
        >>> from timm.models import SwinTransformer
        >>> ablation_cam(SwinTransformer(img_size=64, window_size=2, embed_dim=24), torch.randn(1, 3, 64, 64), 0).shape
        torch.Size([1, 64, 64])

    Source: Ramaswamy and Desai, Ablation-CAM, WACV 2020. Departs from it: the drop is not divided by the logit, which
    scales the map, and would reverse it where the logit is negative.
    """
    layer = (stage, block)
    whole, activation, geometry = logit_and_activation(model, images, target, layer=layer, at=at, logit=logit)
    channels = activation.shape[-1]
    lost = []
    for removed in torch.arange(len(images) * channels, device=images.device).split(batch_size):
        image, channel = removed // channels, removed % channels

        def ablate(_: BlockGeometry, tokens: Tensor, channel: Tensor = channel) -> Tensor:
            kept = torch.arange(channels, device=tokens.device) != channel[:, None]  # [batch, channels]
            return torch.einsum("bc,b...c->b...c", kept.to(tokens), tokens)

        lost.append(whole[image] - changed_logit(model, images[image], target, ablate, layer=layer, at=at, logit=logit))
    cam = torch.einsum("bc,b...c->b...", torch.cat(lost).view(-1, channels).to(activation), activation).relu()
    return to_unit_range(upsample(min_max(cam), images.shape[2:], geometry.extent), brain)


def logit_and_activation(
    model: nn.Module, images: Tensor, target: int, *, layer: tuple[int, int], at: str, logit: Logit | None
) -> tuple[Tensor, Tensor, BlockGeometry]:
    """Logit [B], activation [B, *grid, channels] of one layer in float32 or better, and its block, without gradients."""
    kept: dict[BlockGeometry, Tensor] = {}

    def keep(block: BlockGeometry, tokens: Tensor) -> None:
        kept[block] = upcast(tokens)

    score = changed_logit(model, images, target, keep, layer=layer, at=at, logit=logit)
    ((geometry, activation),) = kept.items()
    return score, activation, geometry

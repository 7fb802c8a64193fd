"""GradCAM on Swin: the rival that needs no attention."""

import torch
from torch import Tensor, nn

from hgisam.attention import blocks_of, checked_logits, find_swin, pair
from hgisam.maps.combine import min_max, upsample


def grad_cam(model: nn.Module, images: Tensor, target: int, *, brain: Tensor | None = None) -> Tensor:
    """GradCAM at the first norm of the last block.

    Args:
        model: Is or contains one timm Swin, and returns logits; left as it was.
        images: [B, C, H, W], standardised as in training.
        target: Class whose logit is explained.
        brain: [B, H, W] mask, or None.

    Returns:
        [B, H, W] in [0, 1], float32; zeros where nothing speaks for the class.

    Raises:
        InputError: For a model, images or a target that do not fit.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017; the layer is that of the released HGI-SAM code, which explains the
    predicted class instead of a given one.
    """
    kept: list[Tensor] = []
    was_training = {module: module.training for module in model.modules()}
    norm = blocks_of(find_swin(model), -1)[-1].norm1
    handle = norm.register_forward_hook(lambda _module, _input, output: kept.append(output))
    try:
        model.eval()
        with torch.enable_grad():
            logits = checked_logits(model, images.detach().requires_grad_(), target)
        activation = kept[0]  # [B, rows, cols, channels]
        (gradient,) = torch.autograd.grad(logits[:, target].float().sum(), [activation])
    finally:
        handle.remove()
        for module, training in was_training.items():
            module.training = training
    weights = gradient.float().mean(dim=(1, 2), keepdim=True)
    cam = (weights * activation.detach().float()).sum(dim=3).relu()
    maps = upsample(min_max(cam), pair(images.shape[2:]))
    return min_max(maps if brain is None else maps * brain.to(maps.dtype))

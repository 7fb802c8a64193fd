"""One adapter per library: timm, torchvision, Hugging Face transformers and MONAI, imported if a model comes from it."""

from importlib import import_module

from torch import nn

from hgisam.attention.swin import Swin
from hgisam.errors import InputError

# class of a Swin → its adapter
SWINS = {
    "timm.models.swin_transformer.SwinTransformer": "timm.TimmSwin",
    "timm.models.swin_transformer_v2.SwinTransformerV2": "timm.TimmSwin",
    "timm.models.swin_transformer_v2_cr.SwinTransformerV2Cr": "timm.TimmSwin",
    "torchvision.models.swin_transformer.SwinTransformer": "torchvision.TorchvisionSwin",
    "transformers.models.swin.modeling_swin.SwinModel": "transformers.TransformersSwin",
    "transformers.models.swinv2.modeling_swinv2.Swinv2Model": "transformers.TransformersSwin",
    "transformers.models.swinv2.modeling_swinv2.Swinv2Backbone": "transformers.TransformersSwin",
    "monai.networks.nets.swin_unetr.SwinTransformer": "monai.MonaiSwin",
}
OTHERS = {  # what people try instead of a Swin → what they can do
    "VisionTransformer": "A ViT has no windows: use attention rollout for ViT, e.g. of pytorch-grad-cam.",
    "ViTModel": "A ViT has no windows: use attention rollout for ViT, e.g. of pytorch-grad-cam.",
    "Conv2d": "A CNN has no attention: use GradCAM, e.g. of pytorch-grad-cam or torch-cam.",
    "Conv3d": "A CNN has no attention: use GradCAM, e.g. of pytorch-grad-cam or torch-cam.",
}


def classes_of(module: nn.Module) -> list[str]:
    """Full names of a module's class and its bases."""
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]


def find_swin(model: nn.Module) -> Swin:
    """Find the one Swin that `model` is or contains, by its class.

    Raises:
        InputError: If there is none, or more than one.

    Example:
        >>> from timm.models import SwinTransformer
        >>> swin = SwinTransformer(img_size=64, window_size=2, embed_dim=24)
        >>> find_swin(nn.Sequential(swin, nn.Softmax(dim=1))).module is swin
        True
    """
    found = [(module, name) for module in model.modules() for name in classes_of(module) if name in SWINS]
    if len(found) != 1:
        remedy = "Give a classifier with one Swin of timm, torchvision, transformers or MONAI."
        if not found:
            inside = {name.rpartition(".")[2] for module in model.modules() for name in classes_of(module)}
            remedy = next((advice for name, advice in OTHERS.items() if name in inside), remedy)
        raise InputError("model", f"{len(found)} Swin transformers in {type(model).__name__}", "one", remedy)
    module, name = found[0]
    library, _, adapter = SWINS[name].partition(".")
    swin: Swin = getattr(import_module(f"{__name__}.{library}"), adapter)(module)
    return swin

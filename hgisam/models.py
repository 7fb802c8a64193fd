"""The classifier: timm's Swin transformer at the size that a profile asks for."""

from pathlib import Path

import safetensors
import safetensors.torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor

from hgisam.errors import InputError
from hgisam.profile import Profile

CLASSES = ("no bleeding", "bleeding")
BLEEDING = CLASSES.index("bleeding")


def build_classifier(profile: Profile, *, pretrained: bool = True) -> SwinTransformer:
    """A Swin classifier, bleeding yes or no, with two logits.

    `image_px = 8 × patch_px × window_tokens` gives the topology of the paper's Swin-B at any scale: 8 × 8, 4 × 4,
    2 × 2 and 1 window in the four stages, the last of them unshifted. `model.pool` is how the last tokens become one
    feature vector: "avg" as in the paper's Swin-B, or "max", with which a small Swin learns from scratch, since a slice
    bleeds if any part of it does.

    Args:
        profile: Sections `model`, `data` and `windows` are used.
        pretrained: Start from `model.pretrained`, if the profile names such a file.

    Raises:
        InputError: If the pretrained file is not there or does not fit.
    """
    settings = profile.model
    model = SwinTransformer(
        img_size=profile.data.image_px,
        patch_size=settings.patch_px,
        in_chans=len(profile.windows),
        num_classes=len(CLASSES),
        embed_dim=settings.channels,
        depths=tuple(settings.depths),
        num_heads=tuple(settings.heads),
        window_size=settings.window_tokens,
        global_pool=settings.pool,
        drop_path_rate=settings.drop_path,
    )
    if pretrained and settings.pretrained is not None:
        _load_trunk(model, settings.pretrained)
    return model


def bleeding_probability(logits: Tensor) -> Tensor:
    """Logits [B, 2] → probability of bleeding [B]."""
    return logits.float().softmax(dim=1)[:, BLEEDING]


def _load_trunk(model: SwinTransformer, path: Path) -> None:
    """Loads everything but the head from a local safetensors file of the same architecture."""
    remedy = "Give a local safetensors file of the same Swin (nothing is downloaded), or set model.pretrained to null."
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError("model.pretrained", f"{path} ({error})", "a readable safetensors file", remedy) from None
    own = model.state_dict()
    trunk = {key: value for key, value in weights.items() if not key.startswith("head.")}
    wrong = [key for key, value in trunk.items() if key in own and value.shape != own[key].shape]
    missing = [key for key in own if key not in trunk and not key.startswith("head.")]
    if unfit := wrong + missing:
        raise InputError(
            "model.pretrained",
            f"{path}, where {len(unfit)} tensors differ, first {unfit[0]}",
            "the profile's Swin",
            remedy,
        )
    model.load_state_dict(trunk, strict=False)

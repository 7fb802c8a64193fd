"""Networks of a profile: the Swin classifier, trained on labels, and the segmenter, trained on masks."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PositiveInt, model_validator

from hgisam.errors import InputError

PerStage = Annotated[list[PositiveInt], Field(min_length=4, max_length=4)]


@dataclass(frozen=True)
class SwinShape:
    """Architecture of a Swin transformer, but for image and window size.

    `patch_px`: side of a patch. `channels`: embedding dimension of the first stage; each further stage doubles it.
    `depths`, `heads`: blocks, and attention heads per block, of each stage.
    """

    patch_px: int
    channels: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]


@cache
def named_shape(name: str) -> SwinShape:
    """Architecture of timm's Swin transformer (v1) of this name, read from a model without weights.

    Raises:
        InputError: For a name that timm does not know; names the nearest.
    """
    import timm  # takes seconds, and the preparation of data needs no torch

    known = timm.list_models(module="swin_transformer")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        expected = "a Swin transformer of timm, without the tag of its weights"
        raise InputError("profile key model.architecture", repr(name), expected, f"Nearest: {', '.join(near)}.")
    swin: Any = timm.create_model(name, device="meta")
    return SwinShape(
        patch_px=swin.patch_embed.patch_size[0],
        channels=swin.embed_dim,
        depths=tuple(len(stage.blocks) for stage in swin.layers),
        heads=tuple(stage.blocks[0].attn.num_heads for stage in swin.layers),
    )


class Model(BaseModel, extra="forbid", frozen=True):
    """A timm Swin, by name or by numbers; `image_px = 8 × patch_px × window_tokens` keeps the paper's windows."""

    architecture: str | None  # name of a timm Swin; the next four are null then
    patch_px: PositiveInt | None
    channels: PositiveInt | None
    depths: PerStage | None
    heads: PerStage | None
    window_tokens: PositiveInt
    pool: Literal["max", "avg"]
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    pretrained: Path | None  # a local safetensors file; nothing is downloaded
    pretrained_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None

    @property
    def shape(self) -> SwinShape:
        """The architecture, from name or numbers."""
        if self.architecture is not None:
            return named_shape(self.architecture)
        given = self._numbers()
        return SwinShape(given["patch_px"], given["channels"], tuple(given["depths"]), tuple(given["heads"]))

    def _numbers(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("patch_px", "channels", "depths", "heads")}

    @model_validator(mode="after")
    def _name_or_numbers(self) -> Self:
        because = f"since model.architecture is {self.architecture or 'null'}"
        _check_given("model", self._numbers(), wanted=self.architecture is None, because=because)
        _check_heads("model", self.shape.channels, self.shape.heads)
        if self.pretrained is None:
            sha256 = {"pretrained_sha256": self.pretrained_sha256}
            _check_given("model", sha256, wanted=False, because="since model.pretrained is null")
        return self


class Segmenter(BaseModel, extra="forbid", frozen=True):
    """MONAI network of the supervised baselines; the keys of other architectures are null."""

    architecture: Literal["unet", "basic_unet", "swin_unetr"]
    channels: Annotated[list[PositiveInt], Field(min_length=2)] | None  # of a U-Net; each level halves the resolution
    norm: Literal["batch", "instance", "none"] | None  # of a U-Net
    feature_size: Annotated[int, Field(gt=0, multiple_of=12)] | None  # channels of Swin-UNETR's first stage
    depths: PerStage | None  # of Swin-UNETR, and so are the heads
    heads: PerStage | None

    @property
    def halvings(self) -> int:
        """Downsampling steps from the finest level to the coarsest."""
        return len(self.channels) - 1 if self.channels else 5  # patches of 2 pixels, then four mergings

    @model_validator(mode="after")
    def _keys_of_the_architecture(self) -> Self:
        because = f"since segmenter.architecture is {self.architecture}"
        is_swin = self.architecture == "swin_unetr"
        for keys, wanted in (({"channels", "norm"}, not is_swin), ({"feature_size", "depths", "heads"}, is_swin)):
            _check_given("segmenter", self.model_dump(include=keys), wanted=wanted, because=because)
        if self.feature_size and self.heads:
            _check_heads("segmenter", self.feature_size, self.heads)
        return self


def _check_given(section: str, values: Mapping[str, Any], *, wanted: bool, because: str) -> None:
    """Refuses keys that are null where they are needed, or set where they are unused."""
    for key, value in values.items():
        if (value is not None) != wanted:
            got, expected = ("null", "a value") if wanted else (repr(value), "null")
            remedy = "Change it in the profile or with --set."
            raise InputError(f"profile key {section}.{key}", got, f"{expected}, {because}", remedy)


def _check_heads(section: str, channels: int, heads: Sequence[int]) -> None:
    """Refuses heads that do not divide the channels of their stage."""
    for stage, count in enumerate(heads):
        if (channels * 2**stage) % count:
            expected = f"a divisor of the {channels * 2**stage} channels of stage {stage + 1}"
            raise InputError(f"profile key {section}.heads.{stage}", count, expected, "Change one of them.")

"""The protocol of adapters: what the recording of attention asks of a Swin, whichever library it is from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from hgisam.errors import InputError

LIBRARIES = ("timm", "torchvision", "transformers", "monai")  # one module of this package each
Size = tuple[int, ...]  # one number per axis: rows, cols; or slices, rows, cols


class SwinAdapter(ABC):
    """One Swin transformer: where its blocks are, and the geometry of their windows.

    The softmax of attention needs no adapter: it is recorded wherever it is called inside a block's attention.

    Attributes:
        swin: The module of the library.
        found_by: Classes of its Swins.
        attention: Classes of their window attention.
        off: Attributes of modules that are False while recording: fused attention, which never forms the matrix, and
            gradient checkpointing, which would record twice.
        pads_first: Whether a block pads its grid to whole windows before the cyclic shift, or after it.

    Example:
        >>> from timm.models import SwinTransformer
        >>> adapter = find_adapter(SwinTransformer(img_size=64, window_size=2, embed_dim=24))
        >>> adapter.patch_size, [len(blocks) for blocks in adapter.stages]
        ((4, 4), [2, 2, 6, 2])
    """

    found_by: ClassVar[tuple[type, ...]]
    attention: ClassVar[tuple[type, ...]]
    off: ClassVar[tuple[str, ...]] = ()
    pads_first: ClassVar[bool] = True

    def __init__(self, swin: Any) -> None:
        self.swin: Any = swin

    @property
    @abstractmethod
    def stages(self) -> list[Sequence[Any]]:
        """Blocks of each stage, fine to coarse."""

    @property
    def patch_embed(self) -> Any:
        """The module that is called with the images [B, C, *size]."""
        return self.swin.patch_embed

    @property
    def projection(self) -> Any:
        """The convolution of the patch embedding: its kernel is a patch."""
        return self.patch_embed.proj

    @property
    def convolution(self) -> Any:
        """The projection itself, where PEFT put a low-rank update around it."""
        return getattr(self.projection, "base_layer", self.projection)

    @property
    def returns_features(self) -> bool:
        """Whether the Swin returns features, for want of a head."""
        return True

    @property
    def patch_size(self) -> Size:
        """Pixels of a patch along each axis."""
        return tuple(self.convolution.kernel_size)

    def expected_size(self, size: Size) -> str | None:
        """None for images of a size that fits, else the sizes that would."""
        fits = all(px >= patch for px, patch in zip(size, self.patch_size, strict=True))
        return None if fits else ", ".join(f"{patch} or more" for patch in self.patch_size)

    def block_indices(self, stages: Sequence[int] | None) -> list[tuple[int, int]]:
        """(stage, block) of every block of some stages, None for all, in forward order; or an InputError."""
        depths = list(map(len, self.stages))
        stages = range(len(depths)) if stages is None else stages
        if not stages or not set(stages) <= set(range(len(depths))):
            expected = f"some of 0 to {len(depths) - 1}"
            raise InputError("stages", list(stages), expected, "Choose stages of the model, from 0.")
        return [(stage, block) for stage in sorted(set(stages)) for block in range(depths[stage])]

    def resolve_index(self, stage: int, block: int) -> tuple[int, int]:
        """(stage, block) from 0, where -1 was allowed for the last; an InputError for a block that does not exist."""
        depths = list(map(len, self.stages))
        for what, got, count in (("stage", stage, len(depths)), ("block", block, depths[stage % len(depths)])):
            if not -count <= got < count:
                raise InputError(what, got, f"0 to {count - 1}, or -1 for the last", f"Choose a {what} of the model.")
        return stage % len(depths), block % depths[stage]

    def check_input(self, images: Tensor) -> None:
        """Raise an InputError for channels or sizes that do not fit the Swin, whose wrapper may change its input."""
        channels, size, axes = int(self.convolution.in_channels), tuple(images.shape[2:]), len(self.patch_size)
        expected = self.expected_size(size) if len(size) == axes else ", ".join("DHW"[-axes:])
        if expected or images.shape[1] != channels:
            remedy = "Resize the images, or build the Swin with their size (img_size) or for any (dynamic_img_size)."
            got = f"shape {list(images.shape)} at the Swin"
            raise InputError("images", got, f"[B, {channels}, {expected or ', '.join(map(str, size))}]", remedy)

    def grid(self, given: tuple[Any, ...]) -> Size:
        """Tokens along each axis, from the arguments of a block."""
        return tuple(given[0].shape[1:-1])  # of [B, *grid, C]

    def partition(self, block: Any, grid: Size) -> tuple[Size, Size]:
        """Window and cyclic shift of a block, in tokens along each axis; called inside its forward pass."""
        return per_axis(block.window_size, len(grid)), per_axis(block.shift_size, len(grid))

    def attention_of(self, block: Any) -> nn.Module:
        """The attention of a block."""
        attention: nn.Module = getattr(block, "attn", block)
        return attention

    def norm(self, block: Any, name: str) -> nn.Module:
        """A norm of a block: "norm1" is that of attention, "norm2" that of the MLP."""
        norm: nn.Module = getattr(block, name)
        return norm

    def settings(self) -> Iterator[tuple[Any, str, Any]]:
        """Owner, attribute and value of what is set while recording, and set back afterwards."""
        for module in self.swin.modules():
            yield from ((module, name, False) for name in self.off if hasattr(module, name))


def per_axis(size: Sequence[int] | int, axes: int) -> Size:
    """A size that may be one number, along each axis."""
    return (int(size),) * axes if isinstance(size, int) else tuple(map(int, size))


def adapters_of(model: nn.Module) -> list[SwinAdapter]:
    """An adapter for each Swin that `model` is or contains; libraries that it has no module of are not imported."""
    modules = list(model.modules())
    classes = {cls for kind in {type(module) for module in modules} for cls in kind.__mro__}
    tops = {cls.__module__.partition(".")[0] for cls in classes}
    adapters = [import_module(f"hgisam.adapters.{name}").Adapter for name in LIBRARIES if name in tops]
    found = [adapter(module) for module in modules for adapter in adapters if isinstance(module, adapter.found_by)]
    return [adapter for adapter in found if adapter.stages]


def find_adapter(model: nn.Module) -> SwinAdapter:
    """The adapter for the one Swin that `model` is or contains.

    Raises:
        InputError: If there is none, or more than one.
    """
    found = adapters_of(model)
    if len(found) != 1:
        got, expected = f"{len(found)} Swin transformers in {type(model).__name__}", "one"
        remedy = "Give a model with one Swin of timm, torchvision, transformers or MONAI; parts and copies are none."
        raise InputError("model", got, expected, remedy)
    return found[0]


def check_head(model: nn.Module) -> None:
    """Raise an InputError for a model that is a Swin without a head, and nothing that could be one around it."""
    weights = len(list(model.parameters()))
    if any(swin.returns_features and len(list(swin.swin.parameters())) == weights for swin in adapters_of(model)):
        remedy = "Build it with classes, put a trained head behind it, or give logit=, a function of its output."
        raise InputError("model", "a Swin without a head, which returns features", "a classifier", remedy)

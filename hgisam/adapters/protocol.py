"""The protocol of adapters: what the recording of attention asks of a Swin, whichever library it is from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

from torch import nn

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
        >>> (adapter,) = adapters_of(SwinTransformer(img_size=64, window_size=2, embed_dim=24))
        >>> adapter.patch_size, [len(blocks) for blocks in adapter.stages]
        ((4, 4), [2, 2, 6, 2])
    """

    found_by: ClassVar[tuple[type, ...]]
    attention: ClassVar[tuple[type, ...]]
    off: ClassVar[tuple[str, ...]] = ()
    pads_first: ClassVar[bool] = True

    def __init__(self, swin: Any) -> None:
        self.swin = swin

    @property
    @abstractmethod
    def stages(self) -> list[Sequence[Any]]:
        """Blocks of each stage, fine to coarse."""

    @property
    @abstractmethod
    def patch_embed(self) -> nn.Module:
        """The module that is called with the images [B, C, *size]."""

    @property
    @abstractmethod
    def projection(self) -> Any:
        """The convolution of the patch embedding: its kernel is a patch."""

    @property
    def returns_features(self) -> bool:
        """Whether the Swin returns features, for want of a head."""
        return True

    @property
    def patch_size(self) -> Size:
        """Pixels of a patch along each axis."""
        return tuple(self.projection.kernel_size)

    def expected_size(self, size: Size) -> str | None:
        """None for images of a size that fits, else the sizes that would."""
        fits = all(px >= patch for px, patch in zip(size, self.patch_size, strict=True))
        return None if fits else ", ".join(f"{patch} or more" for patch in self.patch_size)

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
    return [adapter(module) for module in modules for adapter in adapters if isinstance(module, adapter.found_by)]

"""Hooks on a Swin: the only place that hangs them, and takes them away again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from timm.models.swin_transformer_v2_cr import WindowMultiHeadAttention
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hgisam.attention.swin import (
    BlockAttention,
    BlockGeometry,
    Swin,
    at_least_float32,
    block_of,
    check_swin_input,
    find_swin,
    geometry_of,
    index_of,
    inspection_mode,
    numbers_of,
    pair,
)
from hgisam.errors import InputError


@contextmanager
def hooked(model: nn.Module, *, start_graph: bool = False) -> Iterator["ForwardHooks"]:
    """A model that is looked at; the hooks are gone afterwards.

    Args:
        model: Is or contains one timm Swin.
        start_graph: Let the graph begin at the first tensor recorded, so that no backward pass goes further down.

    Raises:
        InputError: If what was to be recorded was not recorded exactly once.
    """
    swin = find_swin(model)
    with inspection_mode(model) as hooks:
        watch = ForwardHooks(swin, hooks, start_graph)
        yield watch
    if watch.seen != watch.expected:
        raise InputError(
            "attention",
            f"recorded attention for {watch.seen} of {watch.expected} blocks",
            "one forward pass inside record_attention()",
            "Call the model once in it, and not compiled.",
        )


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """What the model puts out in the `with` block, detached, one entry a call: maps and scores share a forward pass."""
    outputs: list[Tensor] = []
    handle = model.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        handle.remove()


class ForwardHooks:
    """The hooks of one forward pass, and the sizes that it really met."""

    def __init__(self, swin: Swin, hooks: ExitStack, start_graph: bool) -> None:
        self.swin, self.hooks, self.start_graph = swin, hooks, start_graph
        self.size = self.grid = (0, 0)
        self.start: Tensor | None = None
        self.expected = self.seen = 0
        self._hook(swin.patch_embed.register_forward_pre_hook(self._image))

    def attention(self, stages: Sequence[int], visit: Callable[[BlockAttention], None]) -> None:
        """Shows the attention of every block of some stages to `visit` as it is formed."""
        for stage, number in numbers_of(self.swin, stages):
            attn = self._enter(stage, number).attn
            record = partial(self._attention, visit, stage, number)
            if isinstance(getattr(attn, "softmax", None), nn.Softmax):
                self._hook(attn.softmax.register_forward_pre_hook(lambda _, given: (self._begin(given[0]),)))
                self._hook(
                    attn.softmax.register_forward_hook(lambda _, given, out, record=record: record(given[0], out))
                )
            elif isinstance(attn, WindowMultiHeadAttention):
                self._hook(attn.attn_drop.register_forward_pre_hook(partial(self._softmax_again, record)))
            else:
                got, remedy = type(attn).__name__, "Use a Swin whose blocks are timm's."
                raise InputError(f"attention of stage {stage}, block {number}", got, "a softmax to record", remedy)

    def activation(self, stage: int, number: int, at: str, visit: Callable[[BlockGeometry, Tensor], None]) -> None:
        """Shows what a block, or one of its norms, puts out; -1 is the last."""
        stage, number = index_of(self.swin, stage, number)
        block = self._enter(stage, number)

        def record(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            output = self._begin(output)
            visit(self._place(stage, number), output)
            return output

        self._hook((block if at == "output" else getattr(block, at)).register_forward_hook(record))

    def _hook(self, handle: RemovableHandle) -> None:
        self.hooks.callback(handle.remove)

    def _image(self, _: nn.Module, given: tuple[Tensor]) -> None:
        check_swin_input(self.swin, given[0])
        self.size = pair(given[0].shape[2:])

    def _enter(self, stage: int, number: int) -> Any:
        """The block, hooked so that its grid is known when it runs."""

        def enter(_: nn.Module, given: tuple[Tensor]) -> None:
            self.grid = pair(given[0].shape[1:3])  # of [B, rows, cols, C]

        block = block_of(self.swin, stage, number)
        self.expected += 1
        self._hook(block.register_forward_pre_hook(enter))
        return block

    def _place(self, stage: int, number: int) -> BlockGeometry:
        self.seen += 1
        return geometry_of(self.swin, stage, number, self.grid, self.size)

    def _begin(self, tensor: Tensor) -> Tensor:
        if not self.start_graph or self.start is not None:
            return tensor
        self.start = tensor.detach().requires_grad_()
        return self.start

    def _attention(
        self, visit: Callable[[BlockAttention], None], stage: int, number: int, scores: Tensor, attention: Tensor
    ) -> None:
        visit(BlockAttention(**vars(self._place(stage, number)), scores=scores, attention=attention))

    def _softmax_again(
        self, record: Callable[[Tensor, Tensor], None], _: nn.Module, given: tuple[Tensor]
    ) -> tuple[Tensor]:
        tiny = torch.finfo(torch.float32).tiny  # masked pairs underflow to 0, whose logarithm has no gradient
        scores = self._begin(at_least_float32(given[0]).clamp(min=tiny).log())
        attention = scores.softmax(dim=-1)
        record(scores, attention)
        return (attention.to(given[0].dtype),)

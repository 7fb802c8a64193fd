"""Forward hooks on a Swin: registered and removed here alone."""

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
    block_indices,
    block_of,
    check_swin_input,
    find_swin,
    geometry_of,
    inspection_mode,
    pair,
    resolve_index,
    upcast,
)
from hgisam.errors import InputError

Visit = Callable[[BlockAttention], None]


@contextmanager
def forward_hooks(model: nn.Module, *, start_graph: bool = False) -> Iterator["ForwardHooks"]:
    """Hooks on the Swin of a model in inspection mode, removed afterwards; an InputError unless each block ran once.

    With `start_graph` the autograd graph starts at the first recorded tensor, so that a backward pass ends there.
    """
    swin = find_swin(model)
    with inspection_mode(model) as callbacks:
        hooks = ForwardHooks(swin, callbacks, start_graph)
        yield hooks
    if hooks.recorded != hooks.expected:
        got = f"recorded attention for {hooks.recorded} of {hooks.expected} blocks"
        remedy = "Call the model once in it."
        raise InputError("attention", got, "one forward pass inside record_attention()", remedy)


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of the model in the `with` block, detached, one per call: maps and scores share a forward pass."""
    outputs: list[Tensor] = []
    handle = model.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        handle.remove()


class ForwardHooks:
    """The hooks of one forward pass, and the image size and token grid in it."""

    def __init__(self, swin: Swin, callbacks: ExitStack, start_graph: bool) -> None:
        self.swin, self.callbacks, self.start_graph = swin, callbacks, start_graph
        self.size = self.grid = (0, 0)
        self.start: Tensor | None = None
        self.expected = self.recorded = 0
        self._remove_later(swin.patch_embed.register_forward_pre_hook(self._image))

    def on_attention(self, stages: Sequence[int], visit: Visit) -> None:
        """Call `visit` with the attention of every block of some stages as it is computed."""
        for stage, index in block_indices(self.swin, stages):
            attn = self._hooked_block(stage, index).attn
            record = partial(self._record, visit, stage, index)
            if isinstance(getattr(attn, "softmax", None), nn.Softmax):
                self._remove_later(attn.softmax.register_forward_pre_hook(lambda _, given: (self._start(given[0]),)))
                self._remove_later(attn.softmax.register_forward_hook(record))
            elif isinstance(attn, WindowMultiHeadAttention):
                self._remove_later(attn.attn_drop.register_forward_pre_hook(partial(self._softmax_again, record)))
            else:
                got, remedy = type(attn).__name__, "Use a Swin whose blocks are timm's."
                raise InputError(f"attention of stage {stage}, block {index}", got, "a softmax to record", remedy)

    def on_activation(self, stage: int, index: int, at: str, visit: Callable[[BlockGeometry, Tensor], None]) -> None:
        """Call `visit` with the output of a block or of one of its norms; index -1 is the last."""
        stage, index = resolve_index(self.swin, stage, index)
        block = self._hooked_block(stage, index)

        def record(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            output = self._start(output)
            visit(self._geometry(stage, index), output)
            return output

        self._remove_later((block if at == "output" else getattr(block, at)).register_forward_hook(record))

    def _remove_later(self, handle: RemovableHandle) -> None:
        self.callbacks.callback(handle.remove)

    def _image(self, _: nn.Module, given: tuple[Tensor]) -> None:
        check_swin_input(self.swin, given[0])
        self.size = pair(given[0].shape[2:])

    def _hooked_block(self, stage: int, index: int) -> Any:
        """A block with a hook that reads its token grid."""

        def read_grid(_: nn.Module, given: tuple[Tensor]) -> None:
            self.grid = pair(given[0].shape[1:3])  # of [B, rows, cols, C]

        block = block_of(self.swin, stage, index)
        self.expected += 1
        self._remove_later(block.register_forward_pre_hook(read_grid))
        return block

    def _geometry(self, stage: int, index: int) -> BlockGeometry:
        self.recorded += 1
        return geometry_of(self.swin, stage, index, self.grid, self.size)

    def _start(self, tensor: Tensor) -> Tensor:
        """The tensor; the first one as a leaf where the graph starts."""
        if not self.start_graph or self.start is not None:
            return tensor
        self.start = tensor.detach().requires_grad_()
        return self.start

    def _record(
        self, visit: Visit, stage: int, index: int, _: nn.Module, scores: tuple[Tensor], attention: Tensor
    ) -> None:
        visit(BlockAttention(**vars(self._geometry(stage, index)), scores=scores[0], attention=attention))

    def _softmax_again(self, record: Callable[..., None], module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        """Recover scores from the attention of v2-CR, whose softmax is a function and takes no hook."""
        tiny = torch.finfo(torch.float32).tiny  # masked pairs underflow to 0, whose logarithm has no gradient
        scores = self._start(upcast(given[0]).clamp(min=tiny).log())
        attention = scores.softmax(dim=-1)
        record(module, (scores,), attention)
        return (attention.to(given[0].dtype),)

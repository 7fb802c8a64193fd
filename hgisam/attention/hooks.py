"""Forward hooks on a Swin, and the softmax of its attention: registered and removed here alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from hgisam.adapters.protocol import SwinAdapter, find_adapter
from hgisam.adapters.wrappers import refuse_wrappers
from hgisam.attention.swin import BlockAttention, BlockGeometry, geometry_of, inspection_mode, spatial_size
from hgisam.errors import InputError, check_choice

Visit = Callable[[BlockAttention], None]
Change = Callable[[BlockGeometry, Tensor], Tensor | None]  # of an activation; None leaves it as it is
ACTIVATIONS = ("norm1", "norm2", "output")  # of a block
SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)


@contextmanager
def forward_hooks(model: nn.Module, *, start_graph: bool = False) -> Iterator["ForwardHooks"]:
    """Hooks on the Swin of a model in inspection mode, removed afterwards; an InputError unless each block ran once.

    With `start_graph` the autograd graph starts at the first recorded tensor, so that a backward pass ends there.
    """
    refuse_wrappers(model)
    swin = find_adapter(model)
    with inspection_mode(model) as callbacks:
        hooks = callbacks.enter_context(ForwardHooks(swin, callbacks, start_graph))
        yield hooks
    if hooks.recorded != hooks.expected:
        got = f"recorded attention for {hooks.recorded} of {hooks.expected} blocks"
        remedy = "Let the model call its Swin once, and call the model once inside record_attention()."
        raise InputError("attention", got, "one forward pass of the Swin", remedy)


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of the model in the `with` block, detached, one per call: maps and scores share a forward pass."""
    outputs: list[Tensor] = []
    handle = model.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        handle.remove()


class ForwardHooks(TorchFunctionMode):
    """The hooks of one forward pass, and the image size and token grid in it.

    As a mode of torch functions it sees, inside the attention of a block, the input of softmax and that of the dropout
    which follows it: the libraries call one as a module, another as a function or a method. Both run unchanged.
    """

    def __init__(self, swin: SwinAdapter, callbacks: ExitStack, start_graph: bool) -> None:
        super().__init__()
        self.swin, self.callbacks, self.start_graph = swin, callbacks, start_graph
        self.size: tuple[int, ...] = ()
        self.grid: tuple[int, ...] = ()
        self.start: Tensor | None = None
        self.expected = self.recorded = 0
        self.record: Callable[[Tensor, Tensor], None] | None = None  # inside the attention of a block
        self.scores: Tensor | None = None  # between its softmax and its dropout
        self._remove_later(swin.patch_embed.register_forward_pre_hook(self._image))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.record and func in SOFTMAX:
            self.scores = self._start(args[0])
            args = (self.scores, *args[1:])
        elif self.record and self.scores is not None and func is F.dropout:
            self.record(self.scores, args[0])
            self.scores = None
        return func(*args, **(kwargs or {}))

    def on_attention(self, stages: Sequence[int] | None, visit: Visit) -> None:
        """Call `visit` with the attention of every block of some stages as it is computed."""
        for stage, index in self.swin.block_indices(stages):
            attention = self.swin.attention_of(self._hooked_block(stage, index))
            if not isinstance(attention, self.swin.attention):
                got, remedy = type(attention).__name__, "Use a Swin whose blocks are those of its library."
                raise InputError(f"attention of stage {stage}, block {index}", got, "a softmax to record", remedy)
            self._remove_later(attention.register_forward_pre_hook(partial(self._enter, visit, stage, index)))
            self._remove_later(attention.register_forward_hook(self._leave))

    def on_activation(self, stage: int, index: int, at: str, visit: Change) -> None:
        """Call `visit` with the output of a block or of one of its norms, and use what it returns; -1 is the last."""
        check_choice("at", at, ACTIVATIONS)
        stage, index = self.swin.resolve_index(stage, index)
        block = self._hooked_block(stage, index)

        def record(_: nn.Module, __: Any, output: Any) -> Any:
            first, *others = output if isinstance(output, tuple) else (output,)
            first = self._start(first)
            changed = visit(self._geometry(stage, index), first)
            first = first if changed is None else changed
            return (first, *others) if isinstance(output, tuple) else first

        module = block if at == "output" else self.swin.norm(block, at)
        self._remove_later(module.register_forward_hook(record))

    def _remove_later(self, handle: RemovableHandle) -> None:
        self.callbacks.callback(handle.remove)

    def _image(self, _: nn.Module, given: tuple[Tensor]) -> None:
        self.swin.check_input(given[0])
        self.size = spatial_size(given[0])

    def _hooked_block(self, stage: int, index: int) -> Any:
        """A block with a hook that reads its token grid."""

        def read_grid(_: nn.Module, given: tuple[Any, ...]) -> None:
            self.grid = self.swin.grid(given)

        block = self.swin.stages[stage][index]
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

    def _enter(self, visit: Visit, stage: int, index: int, *_: Any) -> None:
        def record(scores: Tensor, attention: Tensor) -> None:
            visit(BlockAttention(**vars(self._geometry(stage, index)), scores=scores, attention=attention))

        self.record = record

    def _leave(self, *_: Any) -> None:
        self.record = None

"""Hooks on a Swin, of any library: registered and removed here alone.

All libraries call a softmax of torch in their attention, some through a module, some in a function where no hook can
be. So the softmax itself is watched: a `TorchFunctionMode` sees each call, while forward hooks say which block it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hgisam.attention.adapters import find_swin
from hgisam.attention.inspection import Logit, check_model, inspection_mode, target_logit, unwrapped
from hgisam.attention.swin import BlockAttention, BlockGeometry, Swin
from hgisam.errors import InputError

Visit = Callable[[BlockAttention], None]
Change = Callable[[BlockGeometry, Tensor], Tensor | None]
SOFTMAX: set[Any] = {F.softmax, torch.softmax, Tensor.softmax}


@contextmanager
def forward_hooks(
    model: nn.Module, *, logit: Logit | None = None, start_graph: bool = False
) -> Iterator["ForwardHooks"]:
    """Hooks on the Swin of a model in inspection mode, removed afterwards; an InputError unless each block ran once.

    With `start_graph` the autograd graph starts at the first recorded tensor, so that a backward pass ends there.
    """
    model = unwrapped(model)
    check_model(model)
    swin = find_swin(model)
    with inspection_mode(model, swin.settings()) as callbacks:
        hooks = ForwardHooks(model, swin, callbacks, logit, start_graph)
        with hooks:
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


class ForwardHooks(TorchFunctionMode):
    """The hooks of one forward pass, and the image size, token grid and block in it."""

    def __init__(
        self, model: nn.Module, swin: Swin, callbacks: ExitStack, logit: Logit | None, start_graph: bool
    ) -> None:
        super().__init__()
        self.model, self.swin, self.callbacks, self.logit = model, swin, callbacks, logit
        self.start_graph = start_graph
        self.size: tuple[int, ...] = ()
        self.grid: tuple[int, ...] = ()
        self.start: Tensor | None = None
        self.record: Callable[[Tensor, Tensor], None] | None = None  # of the block whose attention runs
        self.expected = self.recorded = 0
        self._register(swin.embed.register_forward_pre_hook, self._image)

    def target_logit(self, images: Tensor, target: int) -> Tensor:
        """`target_logit` of the model; an InputError for a Swin without a head, and for images of other axes."""
        swin, axes = self.swin, len(self.swin.patch)
        if self.logit is None and _parameters(swin.module) == _parameters(self.model) and not _parameters(swin.head):
            got = f"a Swin without a head, which returns features, in {type(self.model).__name__}"
            remedy = "Build it with classes, put a trained head behind it, or give logit=, features to logits."
            raise InputError("model", got, "a classifier", remedy)
        if images.ndim in (4, 5) and images.ndim != axes + 2:
            got, expected = f"shape {list(images.shape)}", f"[B, C, {', '.join('DHW'[-axes:])}], as the Swin takes"
            raise InputError("images", got, expected, "Give slices to a 2-D Swin, volumes to a 3-D one.")
        return target_logit(self.model, images, target, self.logit)

    def on_attention(self, stages: Sequence[int], visit: Visit) -> None:
        """Call `visit` with the attention of every block of some stages as it is computed."""
        for stage, index in self.swin.block_indices(stages):
            block = self._hooked_block(stage, index)
            attention = self.swin.attention(block)
            if not isinstance(attention, self.swin.attention_types):
                got, remedy = type(attention).__name__, "Use a Swin whose blocks are its library's."
                raise InputError(f"attention of stage {stage}, block {index}", got, "a softmax to record", remedy)
            self._register(attention.register_forward_pre_hook, partial(self._enter, visit, stage, index))
            self._register(attention.register_forward_hook, self._leave)

    def on_activation(self, stage: int, index: int, at: str, change: Change) -> None:
        """Call `change` with the output of a block or of one of its norms, and use what it returns; -1 is the last."""
        stage, index = self.swin.resolve_index(stage, index)
        block = self._hooked_block(stage, index)

        def record(_: nn.Module, __: Any, output: Any) -> Any:
            tokens = self._start(output[0] if isinstance(output, tuple) else output)
            changed = change(self._geometry(stage, index), tokens)
            tokens = tokens if changed is None else changed
            return (tokens, *output[1:]) if isinstance(output, tuple) else tokens

        module = block if at == "output" else getattr(block, self.swin.norms[at])
        self._register(module.register_forward_hook, record)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.record is None or func not in SOFTMAX:
            return func(*args, **(kwargs or {}))
        record, self.record = self.record, None
        scores = self._start(args[0])
        attention = func(scores, *args[1:], **(kwargs or {}))
        record(scores, attention)
        return attention

    def _register(self, register: Callable[..., Any], hook: Callable[..., Any]) -> None:
        self.callbacks.callback(register(hook).remove)

    def _image(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.swin.check_images(given[0])
        self.size = tuple(given[0].shape[2:])

    def _hooked_block(self, stage: int, index: int) -> Any:
        """A block with a hook that reads its token grid."""

        def read_grid(_: nn.Module, given: tuple[Any, ...]) -> None:
            self.grid = self.swin.grid(given)

        block = self.swin.stages[stage][index]
        self.expected += 1
        self._register(block.register_forward_pre_hook, read_grid)
        return block

    def _geometry(self, stage: int, index: int) -> BlockGeometry:
        self.recorded += 1
        return self.swin.geometry(stage, index, self.grid, self.size)

    def _start(self, tensor: Tensor) -> Tensor:
        """The tensor; the first one as a leaf where the graph starts."""
        if not self.start_graph or self.start is not None:
            return tensor
        self.start = tensor.detach().requires_grad_()
        return self.start

    def _enter(self, visit: Visit, stage: int, index: int, _: nn.Module, __: Any) -> None:
        def record(scores: Tensor, attention: Tensor) -> None:
            visit(BlockAttention(**vars(self._geometry(stage, index)), scores=scores, attention=attention))

        self.record = record

    def _leave(self, _: nn.Module, __: Any, ___: Any) -> None:
        self.record = None


def _parameters(module: nn.Module | None) -> int:
    return 0 if module is None else len(list(module.parameters()))

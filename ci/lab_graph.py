"""A classifier and its HGI-SAM map as one ONNX graph, for a page that computes without Python.

The backward pass is part of the graph: tracing records what autograd does, so that the graph has the gradient of the
logit at each attention head, and the map made of it, as plain operations. Needs onnx and onnxscript (extra `dev`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from hgisam.attention.gradients import reduce_gradients
from hgisam.attention.swin import BlockAttention, BlockGeometry, spatial_size
from hgisam.maps.combine import attention_received, combine, to_token_grid
from hgisam.maps.hgi_sam import head_weights, weighted_attention
from hgisam.models.checkpoint import Checkpoint

INPUTS, OUTPUTS = ["hu", "brain"], ["score", "map", "heads"]
OPSET = 18
SMALL = 1000  # values of a constant; only larger ones are stored in float16


def explain(checkpoint: Checkpoint, images: Tensor) -> tuple[Tensor, Tensor, dict[BlockGeometry, Tensor]]:
    """Score, map and head weights of preprocessed slices.

    Args:
        checkpoint: A classifier.
        images: [B, C, H, W], from its preprocessing.

    Returns:
        Score [B], the probability of bleeding; map [B, H, W] of HGI-SAM in [0, 1]; and the weights [heads] of each
        block that the map is made of, a mean over the windows, in the order of the network.
    """
    model, options = checkpoint.model, checkpoint.profile.maps
    logits: list[Tensor] = []
    heads: dict[BlockGeometry, Tensor] = {}

    def logit(output: Tensor) -> Tensor:
        logits.append(output)
        return output

    def infuse(block: BlockAttention, gradient: Tensor) -> Tensor:
        weights = head_weights(gradient)
        heads[block.geometry] = weights.mean(dim=0)
        return to_token_grid(weighted_attention(attention_received(block.attention), weights), block)

    target = checkpoint.task.bleeding
    grids = reduce_gradients(
        model, images, target, infuse, stages=options.stages, gradient_at=options.gradient_at, logit=logit
    )
    score = checkpoint.task.score(logits[0].detach())
    return score, combine(grids, spatial_size(images), None), {block: heads[block] for block in grids}


def trace(checkpoint: Checkpoint, size_px: int) -> nn.Module:
    """Graph of preprocessing and `explain` for one slice: hu and brain [1, H, W] float32 → `OUTPUTS`."""
    checkpoint.model.eval().requires_grad_(False)
    hu, brain = torch.full((1, size_px, size_px), 35.0), torch.ones(1, size_px, size_px)
    hu += torch.linspace(0, 30, size_px)  # no constant slice: its map would be one too

    def compute(hu: Tensor, brain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        score, found, heads = explain(checkpoint, checkpoint.preprocess(hu, brain))
        return score, found, torch.cat(list(heads.values()))

    with _without_checks():
        graph: nn.Module = make_fx(compute, decomposition_table=_decompositions())(hu, brain)
    return graph.eval()


def export(checkpoint: Checkpoint, size_px: int, path: str | Path) -> Path:
    """Write the graph of `trace` as ONNX, its weights in float16, each of them once.

    Args:
        checkpoint: A classifier.
        size_px: Side of the prepared slices that it was trained on.
        path: File to write.
    """
    like = torch.zeros(2, 1, size_px, size_px).unbind()  # one tensor twice would become one input
    program: Any = torch.onnx.export(
        trace(checkpoint, size_px), tuple(like), dynamo=True, opset_version=OPSET, input_names=INPUTS,
        output_names=OUTPUTS, verbose=False,
    )  # fmt: skip
    model = program.model_proto
    shrink(model.graph)
    onnx.save(model, path)
    return Path(path)


def shrink(graph: onnx.GraphProto) -> None:
    """Store large constants in float16 where nothing is lost, and those that are another one transposed not at all.

    The weights of shipped checkpoints are float16 already. The graph is changed in place.
    """
    kept: list[onnx.TensorProto] = []
    stored: dict[tuple[tuple[int, ...], bytes], str] = {}
    nodes: list[onnx.NodeProto] = []
    for constant in graph.initializer:
        values = numpy_helper.to_array(constant)
        with np.errstate(over="ignore"):
            halved = values.astype(np.float16)
        if values.size < SMALL or values.dtype != np.float32 or not np.array_equal(halved, values):
            kept.append(constant)
            continue
        twin = stored.get((values.T.shape, values.T.tobytes())) if values.ndim == 2 else None
        if twin is not None:
            nodes.append(helper.make_node("Transpose", [twin], [constant.name], perm=[1, 0]))
            continue
        stored[values.shape, values.tobytes()] = constant.name
        half = constant.name + "_half"
        kept.append(numpy_helper.from_array(halved, half))
        nodes.append(helper.make_node("Cast", [half], [constant.name], to=TensorProto.FLOAT))
    nodes += graph.node
    graph.ClearField("initializer")
    graph.ClearField("node")
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


@contextmanager
def _without_checks() -> Iterator[None]:
    """Checks of values read them, which a graph cannot."""
    with patch("hgisam.attention.swin.check_finite"), patch("hgisam.attention.gradients.check_finite"):
        yield


def _nanmedian(values: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.nanmedian` by sorting, which ONNX has."""
    missing = values.isnan()
    ordered, order = torch.where(missing, torch.full_like(values, torch.finfo(values.dtype).max), values).sort(dim)
    middle = (((~missing).sum(dim, keepdim=True) - 1) // 2).clamp_min(0)
    median, place = ordered.gather(dim, middle), order.gather(dim, middle)
    return (median, place) if keepdim else (median.squeeze(dim), place.squeeze(dim))


def _decompositions() -> dict[Any, Callable[..., Any]]:
    return {**core_aten_decompositions(), torch.ops.aten.nanmedian.dim: _nanmedian}

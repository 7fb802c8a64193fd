"""Stand-ins for the two graphs of Segment Anything: the same inputs and outputs, but bright pixels are every mask."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hgisam_book.systems.segment_anything import DECODER, ENCODER

CELL_PX = 16  # of the encoder's image
QUALITY = 0.75  # predicted of every mask
Shape = tuple[int | str, ...]
PROMPT: dict[str, Shape] = {
    "image_embeddings": (1, 256, 64, 64), "point_coords": (1, "n", 2), "point_labels": (1, "n"),
    "mask_input": (1, 1, 256, 256), "has_mask_input": (1,), "orig_im_size": (2,),
}  # fmt: skip


def save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Shape],
    outputs: dict[str, Shape],
    constants: dict[str, np.ndarray],
) -> str:
    """Write a graph; its SHA-256."""
    sides = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    values = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, *sides, initializer=values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sam(folder: Path) -> dict[str, str]:
    """Write the pair; their SHA-256.

    The encoder's features are the mean gray value of each cell; the decoder enlarges them, cut to the image. So logits
    are above 0 where the image is brighter than 0.48.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = save_graph(
        folder / ENCODER,
        [
            helper.make_node("AveragePool", ["input"], ["cells"], kernel_shape=[CELL_PX] * 2, strides=[CELL_PX] * 2),
            helper.make_node("ReduceMean", ["cells", "channels"], ["gray"]),
            helper.make_node("Expand", ["gray", "shape"], ["output"]),
        ],
        {"input": (1, 3, 1024, 1024)},
        {"output": (1, 256, 64, 64)},
        {"channels": np.array([1]), "shape": np.array([1, 256, 64, 64])},
    )
    decoder = save_graph(
        folder / DECODER,
        [
            helper.make_node("ReduceMean", ["image_embeddings", "channels"], ["gray"]),
            helper.make_node("Mul", ["gray", "steepness"], ["cells"]),
            helper.make_node("ReduceMax", ["orig_im_size"], ["longest"], keepdims=1),
            helper.make_node("Concat", ["longest", "longest"], ["square"], axis=0),
            helper.make_node("Cast", ["square"], ["sides"], to=TensorProto.INT64),
            helper.make_node("Concat", ["ones", "sides"], ["sizes"], axis=0),
            helper.make_node("Resize", ["cells", "", "", "sizes"], ["padded"], mode="nearest"),
            helper.make_node("Cast", ["orig_im_size"], ["size"], to=TensorProto.INT64),
            helper.make_node("Slice", ["padded", "zeros", "size", "plane"], ["masks"]),
            helper.make_node("Identity", ["quality"], ["iou_predictions"]),
        ],
        PROMPT,
        {"masks": (1, 1, "rows", "cols"), "iou_predictions": (1, 1)},
        {"channels": np.array([1]), "ones": np.array([1, 1]), "zeros": np.array([0, 0]), "plane": np.array([2, 3]),
         "quality": np.array([[QUALITY]], np.float32), "steepness": np.array([10], np.float32)},
    )  # fmt: skip
    return {ENCODER: encoder, DECODER: decoder}

"""The lab in the browser: its graph computes what the package does, its files are those of the shipped network."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from lab_graph import OUTPUTS, explain, export, shrink
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hgisam import hgi_sam
from hgisam.config.profile import Profile
from hgisam.models.checkpoint import Checkpoint, load_checkpoint, shipped_checkpoints
from hgisam.runs.folders import sha256_of
from tests.conftest import untrained

LAB = Path(__file__).parents[2] / "book" / "_static" / "lab"
TOLERANCE = 1e-4


def values_of(script: str) -> dict[str, Any]:
    """What a script of the lab adds to `window.labData`."""
    found = {}
    for line in (LAB / script).read_text(encoding="utf-8").splitlines():
        if line.startswith("labData."):
            name, value = line.removeprefix("labData.").split(" = ", maxsplit=1)
            found[name] = json.loads(value.removesuffix(";"))
    return found


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def answers(session: onnxruntime.InferenceSession, hu: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    feeds = {"hu": hu.astype(np.float32)[None], "brain": brain.astype(np.float32)[None]}
    return dict(zip(OUTPUTS, session.run(None, feeds), strict=True))


def assert_same(found: dict[str, np.ndarray], checkpoint: Checkpoint, hu: np.ndarray, brain: np.ndarray) -> None:
    """The graph's answer is that of the package."""
    images = checkpoint.preprocess(*(torch.tensor(array, dtype=torch.float32)[None] for array in (hu, brain)))
    score, explained, heads = explain(checkpoint, images)
    expected = dict(zip(OUTPUTS, (score, explained, torch.cat(list(heads.values()))), strict=True))
    options = checkpoint.profile.maps
    ways = {"gradient_at": options.gradient_at, "stages": options.stages}
    own = hgi_sam(checkpoint.model, images, checkpoint.task.bleeding, **ways)
    assert torch.equal(expected["map"], own)
    with torch.no_grad():
        assert torch.allclose(expected["score"], checkpoint.task.score(checkpoint.model(images)), atol=1e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=TOLERANCE, err_msg=name)


def test_a_graph_computes_maps_of_slices_it_was_not_traced_with(
    tmp_path: Path, tiny: Profile, tiny_model: nn.Module
) -> None:
    checkpoint = untrained(tiny_model, tiny)
    session = onnxruntime.InferenceSession(export(checkpoint, 32, tmp_path / "lab.onnx"))
    rng = np.random.default_rng(0)
    for level in (20, 45):  # the median of the brain is shifted to one level
        hu = rng.normal(level, 12, (32, 32)).round()
        hu[:, 20:24] = 900  # bone, with an edge to inpaint
        brain = np.hypot(*(np.mgrid[:32, :32] - 16)) < 13
        assert_same(answers(session, hu, brain), checkpoint, hu, brain)


def test_the_shipped_graph_is_that_of_the_shipped_network() -> None:
    model, slices = values_of("model.js"), values_of("slices.js")["slices"]
    folder = shipped_checkpoints()[model["about"]["checkpoint"]]
    assert model["about"]["sha256"] == sha256_of(folder / "model.safetensors"), "run ci/export_lab.py again"
    checkpoint, size = load_checkpoint(folder), model["size"]
    assert model["threshold"] == checkpoint.detection_threshold
    session = onnxruntime.InferenceSession(unpacked(model["model"]))
    for chosen in slices:
        hu = np.frombuffer(unpacked(chosen["hu"]), "<i2").reshape(size, size).astype(np.float64)
        brain, truth = (np.frombuffer(unpacked(chosen[key]), bool).reshape(size, size) for key in ("brain", "truth"))
        assert truth.any() == ("no bleed" not in chosen["name"])
        found = answers(session, hu, brain)
        assert_same(found, checkpoint, hu, brain)
        assert len(found["heads"]) == sum(block["count"] for block in model["heads"])


def test_the_lab_loads_at_most_15_mb() -> None:
    assert sum(path.stat().st_size for path in LAB.iterdir()) <= 15e6


def test_constants_lose_nothing_and_are_stored_once() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(40, 50)).astype(np.float16).astype(np.float32)
    inexact = rng.normal(size=(40, 50)).astype(np.float32)
    constants = {"exact": exact, "twin": exact.T, "inexact": inexact, "large": np.full((40, 50), 1e30, np.float32)}
    inputs = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in constants]
    outputs = [helper.make_tensor_value_info(f"{n}_out", TensorProto.FLOAT, v.shape) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "constants", [], outputs, initializer=inputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    before = len(model.SerializeToString())
    shrink(model.graph)
    onnx.checker.check_model(model)
    assert len(model.SerializeToString()) == pytest.approx(before * (0.5 + 0 + 1 + 1) / 4, rel=0.05)
    values = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})
    for value, expected in zip(values, constants.values(), strict=True):
        np.testing.assert_array_equal(value, expected)

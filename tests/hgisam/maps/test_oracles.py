"""Every method against an independent implementation: plain loops, dense matrices, pytorch-grad-cam."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.models.swin_transformer import window_partition
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hgisam.maps import grad_cam, gradient_input, hgi_sam, hires_cam, layer_cam, relevance, rollout, swin_sam
from hgisam_book.studies.map_variants import composed
from hgisam_book.studies.released_code import released_swin_sam, released_token_grid
from tests.swins import GEOMETRIES, ONE_OF_EACH, blocks, build


def scaled(array: np.ndarray) -> np.ndarray:
    """Min-max normalization of one image."""
    return (array - array.min()) / (array.max() - array.min())


def upsampled(array: np.ndarray, size: tuple[int, int], covered: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation between token centres, by hand: `covered` pixels, cropped to the image `size`."""
    whole = np.zeros(covered)
    for axis_index in np.ndindex(*covered):
        corners, weights = [], []
        for pixel, px, tokens in zip(axis_index, covered, array.shape, strict=True):
            at = min(max((pixel + 0.5) * tokens / px - 0.5, 0), tokens - 1)
            low = min(int(at), tokens - 1)
            corners.append((low, min(low + 1, tokens - 1)))
            weights.append(at - low)
        (r0, r1), (c0, c1) = corners
        wr, wc = weights
        upper = array[r0, c0] * (1 - wc) + array[r0, c1] * wc
        lower = array[r1, c0] * (1 - wc) + array[r1, c1] * wc
        whole[axis_index] = upper * (1 - wr) + lower * wr
    return whole[: size[0], : size[1]]


def recorded(model: Any, images: Tensor, target: int) -> list[dict[str, Any]]:
    """Attention, its gradient and the token at every position of a window (-1 for padding), by separate hooks."""
    found: list[dict[str, Any]] = []

    def record(_: nn.Module, given: tuple[Tensor]) -> None:
        given[0].retain_grad()
        found[-1]["attention"] = given[0]

    for stage, number, block in blocks(model):

        def enter(_: nn.Module, given: tuple[Tensor], block: Any = block, where: Any = (stage, number)) -> None:
            rows, cols = given[0].shape[1:3]
            tokens = torch.arange(rows * cols).view(rows, cols)
            tokens = torch.roll(tokens, (-block.shift_size[0], -block.shift_size[1]), (0, 1))
            pad = (0, -cols % block.window_size[1], 0, -rows % block.window_size[0])
            places = window_partition(F.pad(tokens, pad, value=-1)[None, ..., None].float(), block.window_size)
            found.append({"where": where, "places": places.flatten(1).long(), "grid": (rows, cols), "block": block})

        block.attn.fused_attn = False
        block.register_forward_pre_hook(enter)
        block.attn.attn_drop.register_forward_pre_hook(record)
    model(images)[:, target].sum().backward()
    return found


def on_grid(
    values: np.ndarray, places: Tensor, grid: tuple[int, int], roll: tuple[int, int] | None = None
) -> np.ndarray:
    """[nW, N] → token grid; with `roll`, rolled as in the released code, whatever the block's own shift was."""
    flat = np.zeros(grid[0] * grid[1])
    for window, keys in enumerate(places):
        for key, token in enumerate(keys):
            if token >= 0:
                flat[token] = values[window, key]
    return flat.reshape(grid) if roll is None else np.roll(flat.reshape(grid), roll, (0, 1))


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("method", ["hgi_sam", "swin_sam"])
def test_attention_maps_equal_a_reference_with_loops(name: str, method: str) -> None:
    model, images = build(name)
    images = images[:1]
    got = hgi_sam(model, images, 1, gradient_at="weights") if method == "hgi_sam" else swin_sam(model, images, 1)
    size = tuple(images.shape[2:])
    product = np.ones(size)
    records = recorded(model, images, 1)
    for stage in range(3 if method == "hgi_sam" else 4):
        grids = []
        for record in (r for r in records if r["where"][0] == stage):
            attention, gradient = record["attention"].detach().double(), record["attention"].grad.double()
            windows, heads, n, _ = attention.shape
            received = np.zeros((windows, n))
            for window in range(windows):
                for head in range(heads):
                    weight = float(gradient[window, head].square().sum().sqrt()) if method == "hgi_sam" else 1.0
                    received[window] += weight * attention[window, head].mean(dim=0).numpy() / heads
            grids.append(on_grid(received, record["places"], record["grid"]))
        pairs = [np.prod(grids[i : i + 2], axis=0) for i in range(0, len(grids), 2)]
        token_px = 2 * 2**stage
        covered = (grids[0].shape[0] * token_px, grids[0].shape[1] * token_px)
        product *= upsampled(scaled(np.mean(pairs, axis=0)), size, covered)
    np.testing.assert_allclose(got[0].numpy(), scaled(product), atol=2e-4)


def test_released_swin_sam_rolls_grids_that_were_never_shifted() -> None:
    """The released code: odd blocks are rolled by half a window, whether timm shifted them or not."""
    model, images = build("v1")
    images = images[:1]
    published, corrected = (method(model, images, 1)[0] for method in (released_swin_sam, swin_sam))
    product = np.ones((32, 32))
    records, (model, _) = recorded(model, images, 1), build("v1")  # one without our hooks
    for stage in range(4):
        grids = []
        for record in (r for r in records if r["where"][0] == stage):
            received = record["attention"].detach().mean(dim=1).mean(dim=1).numpy()
            rows, cols = record["grid"]
            plain = torch.arange(rows * cols).view(1, rows, cols, 1).float()
            places = window_partition(plain, (2, 2)).flatten(1).long()
            grids.append(on_grid(received, places, record["grid"], (1, 1) if record["where"][1] == 1 else (0, 0)))
        covered = (grids[0].shape[0] * 2 * 2**stage,) * 2
        product *= upsampled(scaled(grids[0] * grids[1]), (32, 32), covered)
    np.testing.assert_allclose(published.numpy(), scaled(product), atol=2e-4)
    assert (published - corrected).abs().max() > 0.1  # windows of 2 × 2: the last stage has no shift
    for stages in ((0, 1, 2), (0,)):
        same = [method(model, images, 1, stages=stages) for method in (released_swin_sam, swin_sam)]
        torch.testing.assert_close(*same)
        released = composed(gradient_at="scores", stages=stages, grid=released_token_grid)
        torch.testing.assert_close(released(model, images, 1), hgi_sam(model, images, 1, stages=stages))


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("method", [rollout, relevance])
def test_rollout_and_relevance_equal_products_of_dense_matrices(name: str, method: Any) -> None:
    """Matrices over all tokens, which the library never forms, multiplied from the first block to the last."""
    model, images = build(name)
    images = images[:1]
    got = method(model, images, 1)[0].numpy()
    total, previous = None, None
    records = recorded(model.double(), images.double(), 1)
    for record in records:
        rows, cols = record["grid"]
        attention, gradient = record["attention"].detach()[:], record["attention"].grad
        small = attention.mean(dim=1) if method is rollout else (attention * gradient).relu().mean(dim=1)
        mixing = np.zeros((rows * cols, rows * cols))
        for window, tokens in enumerate(record["places"].tolist()):
            for i, query in enumerate(tokens):
                for j, key in enumerate(tokens):
                    if query >= 0 and key >= 0:
                        mixing[query, key] = small[window, i, j]
        mixing = (mixing + np.eye(rows * cols)) / 2 if method is rollout else mixing + np.eye(rows * cols)
        if total is None:
            total = np.eye(rows * cols)
        elif (rows, cols) != previous:
            merging = np.zeros((rows * cols, previous[0] * previous[1]))
            for r, c in np.ndindex(*previous):
                merging[(r // 2) * cols + c // 2, r * previous[1] + c] = 1
            total = merging @ total
        total, previous = mixing @ total, (rows, cols)
    first = records[0]["grid"]
    share = total.sum(axis=0).reshape(first)
    expected = upsampled(scaled(share), tuple(images.shape[2:]), (first[0] * 2, first[1] * 2))
    np.testing.assert_allclose(got, scaled(expected), atol=1e-3)


@pytest.mark.parametrize("at", ["norm1", "norm2", "output"])
@pytest.mark.parametrize("where", [(-1, -1), (2, 0)])
@pytest.mark.parametrize("name", [*ONE_OF_EACH, "v1 rectangular"])
def test_cams_are_those_of_pytorch_grad_cam(name: str, where: tuple[int, int], at: str) -> None:
    model, images = build(name)
    stage, number = (3, 1) if where == (-1, -1) else where
    maps = {
        GradCAM: grad_cam(model, images, 2, stage=where[0], block=where[1], at=at),
        # a norm follows the last output: gradient · activation is only rounding errors
        HiResCAM: None
        if (stage, at) == (3, "output")
        else hires_cam(model, images, 2, stage=where[0], block=where[1], at=at),
        LayerCAM: None if number == 0 else layer_cam(model, images, 2, stages=(stage,), at=at),
    }
    block = next(block for s, b, block in blocks(model) if (s, b) == (stage, number))
    layer = block if at == "output" else getattr(block, at)
    rows, cols = (side // 2 // 2**stage for side in images.shape[2:])

    def channels_first(tensor: Tensor) -> Tensor:
        return tensor.reshape(len(tensor), rows, cols, -1).permute(0, 3, 1, 2)

    for oracle, got in maps.items():
        if got is None:
            continue
        with oracle(model=model, target_layers=[layer], reshape_transform=channels_first) as cam:
            expected = cam(images, targets=[ClassifierOutputTarget(2)] * len(images))
            if oracle is LayerCAM:  # ours applies tanh before upsampling
                (activation,), (gradient,) = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
                raw = oracle.get_cam_image(cam, images, layer, None, activation.numpy(), gradient.numpy(), False)
                grid = torch.from_numpy(raw).relu()
                grid = torch.tanh(2 * grid / grid.amax(dim=(1, 2), keepdim=True).clamp(min=1e-30))
                wide = F.interpolate(grid[:, None], images.shape[2:], mode="bilinear")[:, 0]
                expected = np.stack([scaled(m.numpy()) if m.max() > m.min() else m.numpy() for m in wide])
        for mine, theirs in zip(got.numpy(), expected, strict=True):
            if theirs.max() > 0:  # theirs divides by the maximum, ours is min-max normalized
                theirs = scaled(theirs)
            np.testing.assert_allclose(mine, theirs, atol=2e-3, err_msg=oracle.__name__)


def test_gradient_input_is_that_of_autograd() -> None:
    model, images = build("v2")
    leaf = images.clone().requires_grad_()
    model(leaf)[:, 1].sum().backward()
    expected = (leaf.grad * images).sum(dim=1).relu().numpy()
    got = gradient_input(model, images, 1).numpy()
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, scaled(theirs), atol=1e-5)


PLANTED = (
    "v1",
    "v1 rectangular",
    "v1 padded",
    "v1 padded rectangular",
    "v1 any size",
    "v2 padded rectangular",
    "v2-cr",
)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_attention_is_where_it_was_planted(name: str) -> None:
    """In one block every query of one window attends to one token; all other attention is uniform."""
    model, images = build(name)
    images, size = images[:1], images.shape[2:]
    geometry, (model, _) = recorded(model, images, 1), build(name)  # one without our hooks
    plan: dict[str, Any] = {}

    class Plant(TorchFunctionMode):
        """Another softmax, below the one that is recorded."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if func not in (F.softmax, Tensor.softmax):
                return found
            even = torch.full_like(found, 1 / found.shape[-1])
            if plan["now"] == plan["where"]:
                even[plan["window"]] = 0
                even[plan["window"], :, :, plan["key"]] = 1
            return even

    for stage, number, block in blocks(model):
        block.register_forward_pre_hook(lambda _, __, now=(stage, number): plan.update(now=now))
    for record in geometry:
        rows, cols = record["grid"]
        token_px = 2 * 2 ** record["where"][0]
        for row, col in {(0, 0), (rows - 1, cols - 1), (rows // 2, cols // 3), (0, cols - 1)}:
            ((window, key),) = (record["places"] == row * cols + col).nonzero().tolist()
            plan.update(where=record["where"], window=window, key=key)
            with Plant():
                found = swin_sam(model, images, 0, stages=(record["where"][0],))[0]
            if record["places"].shape[1] == 1:  # a window of one token: its attention is always 1
                assert found.abs().sum() == 0
                continue
            peak = divmod(int(found.argmax()), size[1])
            assert (peak[0] // token_px, peak[1] // token_px) == (row, col), (record["where"], row, col)

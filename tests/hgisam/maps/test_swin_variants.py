"""Every method on every Swin, for any geometry, precision, head and state of the model; or an error that names it."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
from torch import Tensor, nn

import hgisam
from hgisam.config.profile import MethodName
from hgisam.errors import InputError
from hgisam.maps import METHODS, hgi_sam
from hgisam_book.figures import METHOD_NAMES
from tests.swins import FLAGS, GEOMETRIES, ONE_OF_EACH, QUICK, build

REGISTERED = timm.list_models("*swin*")


def small(name: str) -> nn.Module:
    """A registered model with few parameters."""
    if name.startswith("hiera"):
        return timm.create_model(name, embed_dim=24, num_heads=1, stages=(1, 1, 1, 1))
    options: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "img_size": 64}
    model = timm.create_model(name, num_classes=3, window_size=4, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)  # v2 and v2-CR initialize norms with 0, which blocks attention
    return model.eval()


@pytest.mark.parametrize("name", REGISTERED)
def test_every_registered_swin_gets_a_map_or_an_error_that_names_it(name: str) -> None:
    torch.manual_seed(0)
    model = small(name)
    if not name.startswith("swin"):
        with pytest.raises(InputError, match=f"0 Swin transformers in {type(model).__name__}"):
            hgi_sam(model, torch.randn(1, 3, 64, 64), 1)
        return
    maps = hgi_sam(model, torch.randn(2, 3, 64, 64), 1)
    assert maps.shape == (2, 64, 64)
    assert torch.isfinite(maps).all()
    assert maps.amin(dim=(1, 2)).tolist() == [0, 0]
    assert maps.amax(dim=(1, 2)).tolist() == [1, 1]


def test_all_families_are_registered() -> None:
    families = {"swin_base", "swin_s3", "swinv2_base", "swinv2_cr"}
    assert families <= {name[: len(family)] for name in REGISTERED for family in families}


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_batch_is_single_in_every_geometry(name: str, method: str) -> None:
    model, images = build(name)
    maps = QUICK[method](model, images, 1)
    assert maps.shape == (2, *images.shape[2:])
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.max() == 1 or (maps.max() == 0 and method == "grad_cam")  # no evidence for the class
    single = torch.cat([QUICK[method](model, image[None], 1) for image in images])
    torch.testing.assert_close(maps, single, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_little(name: str, method: str, dtype: torch.dtype) -> None:
    model, images = build(name)
    exact = QUICK[method](model, images, 1)
    with torch.autocast("cpu", dtype=dtype):
        maps = QUICK[method](model, images, 1)
    assert maps.dtype == torch.float32
    assert float((maps - exact).abs().mean()) < (0.05 if dtype is torch.bfloat16 else 0.005)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_precision(dtype: torch.dtype) -> None:
    for method in QUICK.values():
        model, images = build("v1")
        exact = method(model, images, 1)
        maps = method(model.to(dtype), images.to(dtype), 1)
        assert maps.dtype == torch.float32
        assert float((maps - exact).abs().mean()) < 0.03


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("method", QUICK)
def test_gpu_is_cpu(method: str) -> None:
    model, images = build("v1 padded")
    expected = QUICK[method](model, images, 1)
    torch.testing.assert_close(QUICK[method](model.cuda(), images.cuda(), 1).cpu(), expected, rtol=0, atol=1e-3)


class _Classifier(nn.Module):
    """A Swin between an adapter and a custom head, as users build them."""

    def __init__(self, swin: nn.Module, head: str) -> None:
        super().__init__()
        self.adapt, self.swin, self.head = nn.Conv2d(1, 3, 1), swin, head

    def forward(self, images: Tensor) -> Tensor:
        resized = nn.functional.interpolate(self.adapt(images), (32, 32), mode="bilinear")
        logits: Tensor = self.swin(resized)
        return {"classes": logits, "one": logits[:, 1:2], "flat": logits[:, 1]}[self.head]


@pytest.mark.parametrize("method", QUICK)
def test_a_swin_inside_a_model_and_heads_of_one_logit(method: str) -> None:
    swin, _ = build("v1")
    images = torch.randn(2, 1, 40, 48, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(5)
    whole = _Classifier(swin, "classes")
    maps = QUICK[method](whole, images, 1)
    assert maps.shape == (2, 40, 48)
    for head in ("one", "flat"):
        other = copy.deepcopy(whole)
        other.head = head
        torch.testing.assert_close(QUICK[method](other, images, 0), maps)
        with pytest.raises(InputError, match="one logit"):
            QUICK[method](other, images, 1)


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


COMPILED = {
    "whole": lambda model: torch.compile(model, backend="eager"),
    "inside a wrapper": lambda model: nn.Sequential(nn.Identity(), torch.compile(model, backend="eager")),
    "in place, inside a wrapper": lambda model: nn.Sequential(nn.Identity(), in_place(model)),
}


@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.parametrize("method", QUICK)
def test_maps_of_a_compiled_model_are_those_of_the_original(method: str, how: str) -> None:
    model, images = build("v1")
    compiled = COMPILED[how](copy.deepcopy(model))
    with torch.no_grad():
        compiled(images)
    torch.testing.assert_close(QUICK[method](compiled, images, 1), QUICK[method](model, images, 1))


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("how", ["done", "no_grad", "frozen", "target", "images", "boom"])
def test_the_model_is_left_as_it_was(method: str, how: str) -> None:
    model, images = build("v1")
    model.train()
    model.layers[1].eval()
    model.layers[2].grad_checkpointing = True
    model.layers[0].blocks[0].attn.fused_attn = True
    model.layers[1].requires_grad_(how == "frozen")
    before = _state(model)
    target, given = (9, images) if how == "target" else (1, images * torch.nan if how == "images" else images)
    if how == "boom":
        handle = model.layers[3].register_forward_pre_hook(_boom)
        before = _state(model)
    if how in {"done", "frozen"}:
        QUICK[method](model, given, target)
    elif how == "no_grad":
        with torch.no_grad():
            QUICK[method](model, given, target)
    else:
        with pytest.raises(RuntimeError if how == "boom" else InputError):
            QUICK[method](model, given, target)
    assert _state(model) == before
    assert images.grad is None
    assert not images.requires_grad
    if how == "boom":
        handle.remove()


def _boom(*_: Any) -> None:
    raise RuntimeError("boom")


def _state(model: nn.Module) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    flags = [[getattr(m, name, None) for name in FLAGS] for m in model.modules()]
    return [hooks, flags, [(p.requires_grad, p.grad) for p in model.parameters()]]


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("name", ["v1", "v1 any size", "v2", "v2-cr"])
def test_images_that_do_not_fit(name: str, method: str) -> None:
    model, images = build(name)
    other = torch.zeros(1, 3, 33, 32)
    for bad, message in [
        (images[0], r"images: got shape .*, expected a tensor \[B, C, H, W\], or of volumes \[B, C, D, H, W\]"),
        (list(images), "images: got a list, expected a tensor"),
        (images.numpy(), "images: got a ndarray, expected a tensor"),
        (images[:0], "B ≥ 1"),
        (images.to(torch.uint8), "uint8"),
        (images.to("meta"), r"images: got .*torch.strided on meta, expected a tensor"),
        (images.to_sparse(), r"images: got .*torch.sparse_coo on cpu, expected a tensor"),
        (images[:, :2], r"at the Swin, expected \[B, 3"),
        (other, "multiple of 2" if name == "v1 any size" else r"expected \[B, 3, 32, 32\]"),
        (images.where(images > -1, torch.nan), "not finite"),
        (images.where(images > -1, torch.inf), "not finite"),
    ]:
        with pytest.raises(InputError, match=message):
            QUICK[method](model, bad, 1)


@pytest.mark.parametrize("method", QUICK)
def test_brain_masks(method: str) -> None:
    model, images = build("v1 padded")
    size = tuple(images.shape[2:])
    left = torch.zeros(2, *size, dtype=torch.bool)
    left[:, :, : size[1] // 2] = True
    maps = QUICK[method](model, images, 1, brain=left)
    assert maps[~left].abs().sum() == 0
    assert maps.max() == 1
    for dtype in (torch.uint8, torch.float64):
        torch.testing.assert_close(QUICK[method](model, images, 1, brain=left.to(dtype)), maps)
    assert QUICK[method](model, images, 1, brain=torch.zeros(2, *size)).abs().sum() == 0
    for bad, message in [
        (left[0], "brain: got shape"),
        (left.numpy(), "brain: got a ndarray, expected a mask of shape"),
        (left[:, :-1], "brain: got shape"),
        (left[:1], "brain: got shape"),
        (torch.full((2, *size), torch.nan), "brain: got values"),
    ]:
        with pytest.raises(InputError, match=message):
            QUICK[method](model, images, 1, brain=bad)


@pytest.mark.parametrize("method", QUICK)
def test_a_model_without_evidence_gets_zeros(method: str) -> None:
    """All weights 0: attention is uniform, gradients are 0, and no map is NaN."""
    model, images = build("v1")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert QUICK[method](model, images, 1).abs().sum() == 0


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("hgi_sam", {"stages": (0, 4)}, "stages"),
        ("hgi_sam", {"stages": ()}, "stages"),
        ("hgi_sam", {"gradient_at": "logits"}, "gradient_at"),
        ("swin_sam", {"stages": (-1,)}, "stages"),
        ("grad_cam", {"stage": 4}, "stage"),
        ("grad_cam", {"block": 2}, "block"),
        ("hires_cam", {"at": "norm3"}, "at: got 'norm3'"),
        ("layer_cam", {"stages": (5,)}, "stage"),
        ("layer_cam", {"stages": ()}, "stages"),
    ],
)
def test_options_that_do_not_fit(method: str, options: dict[str, Any], message: str) -> None:
    model, images = build("v1")
    with pytest.raises(InputError, match=message):
        QUICK[method](model, images, 1, **options)


def test_profile_knows_every_method() -> None:
    assert get_args(MethodName) == tuple(METHODS)
    assert set(METHODS) <= set(METHOD_NAMES)


def test_maps_are_lazy_public_names_of_hgisam() -> None:
    code = "import sys, hgisam; assert 'torch' not in sys.modules; from hgisam import hgi_sam, swin_sam, grad_cam"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'gradcam'"):
        _ = hgisam.gradcam


def test_the_method_in_contributing_works() -> None:
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = next(part for part in text.split("```") if part.startswith("python\n")).removeprefix("python\n")
    names: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    model, images = build("v1 padded rectangular")
    maps = names["sharp_heads"](model, images, 1)
    assert maps.shape == (2, *images.shape[2:])
    assert maps.max() == 1

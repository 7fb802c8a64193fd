"""AblationCAM, ScoreCAM, integrated gradients and AttnLRP against pytorch-grad-cam, captum, and rules by hand."""

from typing import Any

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from hgisam.adapters.protocol import find_adapter
from hgisam.attention import image_gradients
from hgisam.errors import InputError
from hgisam.maps import ablation_cam, gradient_input, integrated_gradients, score_cam
from hgisam.maps.attn_lrp import LrpRules
from hgisam.maps.integrated_gradients import pixel_effects
from tests.libraries import PooledSwin, large_weights, torchvision_swin, transformers_swin
from tests.swins import ONE_OF_EACH, build


def scaled(maps: Tensor) -> Tensor:
    """Min-max normalization of each image [B, H, W]."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low)


class Zeroed(AblationLayer):
    """Channels are set to 0, as in the paper; pytorch-grad-cam sets them to -1e7 where 0 is large already."""

    def set_next_batch(self, input_batch_index: int, activations: Any, num_channels_to_ablate: int) -> None:
        self.activations = activations[input_batch_index][None].repeat(num_channels_to_ablate, 1, 1, 1)

    def __call__(self, _: Any) -> Tensor:
        for number, channel in enumerate(self.indices[: len(self.activations)]):
            self.activations[number, ..., int(channel)] = 0
        return self.activations


@pytest.mark.parametrize("at", ["norm1", "output"])
def test_ablation_cam_is_that_of_pytorch_grad_cam(at: str) -> None:
    model, images = build("v1")
    with torch.no_grad():
        model.head.fc.bias += 50  # a positive logit: theirs divides by it
    maps = ablation_cam(model, images, 2, stage=1, block=0, at=at, batch_size=7)
    layer = model.layers[1].blocks[0] if at == "output" else model.layers[1].blocks[0].norm1
    with AblationCAM(
        model=model, target_layers=[layer], ablation_layer=Zeroed(),
        reshape_transform=lambda tokens: tokens.permute(0, 3, 1, 2),
    ) as cam:  # fmt: skip
        expected = torch.from_numpy(cam(images, targets=[ClassifierOutputTarget(2)] * 2))
    assert expected.amax() > 0
    torch.testing.assert_close(maps, scaled(expected), rtol=0, atol=2e-3)
    with torch.no_grad():
        model.head.fc.bias -= 100  # a negative one: our map stays
    torch.testing.assert_close(ablation_cam(model, images, 2, stage=1, block=0, at=at), maps, rtol=0, atol=2e-3)


def masked_by_hand(model: nn.Module, block: nn.Module, volume: Tensor, target: int) -> Tensor:
    """ScoreCAM of one image or volume: a loop over channels, each a mask of the input."""
    kept: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, __, output: kept.append(output[0].movedim(-1, 0)))
    size, mode = tuple(volume.shape[2:]), "bilinear" if volume.ndim == 4 else "trilinear"
    scores = []
    with torch.no_grad():
        model(volume)
        handle.remove()
        for channel in kept[0]:
            wide = F.interpolate(channel[None, None], size, mode=mode)
            scores.append(model(volume * (wide - wide.min()) / (wide.max() - wide.min()))[0, target])
    cam = torch.tensordot(torch.stack(scores).softmax(dim=0), kept[0], dims=1).relu()
    wide = F.interpolate(cam[None, None], size, mode=mode)[0, 0]
    return (wide - wide.min()) / (wide.max() - wide.min())


def test_score_cam_by_hand() -> None:
    """That of pytorch-grad-cam differs: it upsamples masks with aligned corners."""
    model, images = build("v1")
    expected = masked_by_hand(model, model.layers[1].blocks[1], images[:1], 2)
    assert expected.std() > 0.01
    maps = score_cam(model, images, 2, stage=1, batch_size=10)
    torch.testing.assert_close(maps[0], expected, rtol=0, atol=1e-4)


def test_score_cam_of_a_volume_by_hand() -> None:
    model = large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2)))
    volume = torch.randn(1, 1, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = masked_by_hand(model, find_adapter(model).stages[0][1], volume, 1)
    assert expected.std() > 0.01
    torch.testing.assert_close(score_cam(model, volume, 1, stage=0)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", [ablation_cam, score_cam])
def test_a_batch_of_no_images_is_an_error(method: Any) -> None:
    model, images = build("v1")
    with pytest.raises(InputError, match="batch_size: got 0, expected 1 or more"):
        method(model, images, 1, batch_size=0)


@pytest.mark.parametrize("name", ["v1", "torchvision", "3-D"])
def test_integrated_gradients_and_gradient_input_are_those_of_captum(name: str) -> None:
    model, given = build("v1")
    if name == "torchvision":
        model = large_weights(torchvision_swin("v1", 2))
    if name == "3-D":
        model, given = large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2))), given[:, None, :, :16, :16]
        given = given.repeat_interleave(4, dim=2)
    found = IntegratedGradients(model).attribute(given, target=1, n_steps=6, method="riemann_right")
    torch.testing.assert_close(pixel_effects(model, given, 1, steps=6), found.float(), rtol=1e-3, atol=1e-5)
    product = InputXGradient(model).attribute(given.clone().requires_grad_(), target=1).sum(dim=1).relu().detach()
    maps = gradient_input(model, given, 1)
    torch.testing.assert_close(maps, product / product.flatten(1).amax(dim=1).view(-1, *[1] * (maps.ndim - 1)))
    with pytest.raises(InputError, match="steps: got 0"):
        integrated_gradients(model, given, 1, steps=0)


def test_integrated_gradients_are_complete() -> None:
    """Their sum approaches the difference of the logits of the image and of a blank one as steps grow shorter."""
    model, images = build("v1")
    model, images = with_biases(model).double(), images[:1].double()
    with torch.no_grad():
        difference = float((model(images) - model(images * 0))[0, 1])
    errors = [abs(float(pixel_effects(model, images, 1, steps=steps).sum()) - difference) for steps in (4, 32)]
    assert errors[1] < 0.03 * abs(difference)
    assert errors[1] < errors[0] / 4


def with_biases(model: nn.Module) -> nn.Module:
    """Random biases, so that a blank image is no singular point of the norms."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return model


def without_constants(model: nn.Module) -> nn.Module:
    """No biases, and so no relevance that leaves the pixels, in float64."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or any(part in name for part in ("position_bias", "cpb_mlp", "meta_mlp")):
                parameter.zero_()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-12
    return model.double()


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "torchvision", "transformers v2", "3-D"])
def test_relevance_is_conserved_but_for_the_softmax(name: str) -> None:
    """Logit = relevance of the pixels + that which each softmax keeps: its Taylor expansion has a constant."""
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if name == "3-D":
        model, images = large_weights(PooledSwin(3, window=(2, 2, 2), patch=(2, 2, 2))), images[:, None, 0, :16]
        images = images[:, :, None].repeat_interleave(8, dim=2)
    elif name in ONE_OF_EACH:
        model = build(name)[0]
    elif name == "torchvision":
        model = large_weights(torchvision_swin("v1", 2))
    else:
        model = large_weights(transformers_swin("v2", 32, 2))
    without_constants(model)
    kept = []
    ordinary = F.softmax

    class Watched(torch.overrides.TorchFunctionMode):
        """Relevance of the output of each softmax, less that of its input."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            if func in (ordinary, torch.softmax, Tensor.softmax) and args[0].requires_grad:
                for tensor, sign in ((output, 1.0), (args[0], -1.0)):
                    value = torch.where(tensor.isfinite(), tensor, 0).detach()
                    tensor.register_hook(lambda g, v=value, s=sign: kept.append(s * float((g * v).sum())))
            return output

    with Watched(), LrpRules():
        gradient = image_gradients(model, images, 1)
    with torch.no_grad():
        output = model(images)
    logit = float(getattr(output, "logits", output)[0, 1])
    relevance = float((gradient * images).sum())
    assert len(kept) == 16
    assert abs(sum(kept)) > 1e-3 * abs(logit)
    assert relevance + sum(kept) == pytest.approx(logit, rel=1e-6)


def test_rules_of_attn_lrp_by_hand() -> None:
    """Relevance passed on by the equations of the paper, layer by layer, where the library takes one gradient."""
    generator = torch.Generator().manual_seed(3)
    n, d = 5, 4
    x, wq, wk, wv, wo = (
        torch.randn(rows, d, generator=generator, dtype=torch.float64) for rows in (n, d, d, d, d)
    )  # fmt: skip
    head = torch.randn(d, generator=generator, dtype=torch.float64)

    def forward(given: Tensor) -> Tensor:
        normed = F.layer_norm(given, (d,))
        q, k, v = normed @ wq, normed @ wk, normed @ wv
        return (F.gelu((F.softmax(q @ k.T / 2, dim=-1) @ v) @ wo) @ head).sum()

    leaf = x.clone().requires_grad_()
    with LrpRules():
        output = forward(leaf)
    assert torch.allclose(output, forward(x))  # values stay
    (gradient,) = torch.autograd.grad(output, leaf)

    normed = F.layer_norm(x, (d,))
    q, k, v = normed @ wq, normed @ wk, normed @ wv
    s = q @ k.T / 2
    a = s.softmax(dim=-1)
    o = a @ v
    h = o @ wo

    def through_linear(given: Tensor, weight: Tensor, relevance: Tensor, out: Tensor) -> Tensor:
        return given * ((relevance / out) @ weight.T)  # ε-LRP with ε = 0

    r_h = F.gelu(h) * head  # relevance of each summand; identity rule through GELU
    r_o = through_linear(o, wo, r_h, h)
    share = r_o / o
    r_a, r_v = a * (share @ v.T) / 2, v * (a.T @ share) / 2  # uniform rule
    r_s = s * (r_a - a * r_a.sum(dim=-1, keepdim=True))  # Taylor rule at the softmax
    share = r_s / s
    r_q, r_k = q * (share @ k / 2) / 2, k * (share.T @ q / 2) / 2
    r_n = sum(through_linear(normed, w, r, y) for w, r, y in ((wq, r_q, q), (wk, r_k, k), (wv, r_v, v)))
    scale = 1 / (x.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()  # a constant: the norm is linear
    per = r_n / normed * scale
    torch.testing.assert_close(gradient * x, x * (per - per.mean(dim=-1, keepdim=True)), rtol=1e-6, atol=1e-9)

"""AblationCAM, ScoreCAM, integrated gradients and AttnLRP against pytorch-grad-cam, captum and rules by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from hgisam.attention import image_gradients
from hgisam.errors import InputError
from hgisam.maps import ablation_cam, grad_cam, gradient_input, integrated_gradients, score_cam
from hgisam.maps.attn_lrp import LrpRules
from tests import libraries


def scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low)


class Zeroed(AblationLayer):
    """As in the paper; that of pytorch-grad-cam sets channels to -1e7."""

    def set_next_batch(self, input_batch_index: int, activations: Any, num_channels_to_ablate: int) -> None:
        self.activations = activations[input_batch_index][None].repeat(num_channels_to_ablate, 1, 1, 1)

    def __call__(self, _: Any) -> Tensor:
        for number, channel in enumerate(self.indices[: len(self.activations)]):
            self.activations[number, ..., int(channel)] = 0
        return self.activations


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("at", ["norm1", "norm2"])
def test_ablation_cam_is_that_of_pytorch_grad_cam(at: str, target: int) -> None:
    model, given = libraries.torchvision_swin(), libraries.images(64, 64)
    with torch.no_grad():
        model.head.bias += 50  # a positive logit: theirs divides by it
    maps = ablation_cam(model, given, target, stage=2, block=0, at=at, batch_size=7)
    layer = getattr(model.features[5][0], at)
    with AblationCAM(
        model=model, target_layers=[layer], reshape_transform=lambda x: x.permute(0, 3, 1, 2), ablation_layer=Zeroed(),
    ) as cam:  # fmt: skip
        expected = torch.from_numpy(cam(given, targets=[ClassifierOutputTarget(target)] * 2))
    for mine, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine, scaled(theirs[None])[0] if theirs.max() > 0 else theirs, rtol=0, atol=2e-3)
    with torch.no_grad():
        model.head.bias -= 100  # a negative one: the map stays
    opposite = ablation_cam(model, given, target, stage=2, block=0, at=at, batch_size=32)
    torch.testing.assert_close(opposite, maps, rtol=0, atol=2e-3)


@pytest.mark.parametrize("at", ["norm2", "output"])
def test_score_cam_is_that_of_pytorch_grad_cam(at: str) -> None:
    model, given = libraries.torchvision_swin(), libraries.images(64, 64)
    maps = score_cam(model, given, 1, stage=2, block=1, at=at, batch_size=10)
    block = model.features[5][1]
    layer = block if at == "output" else getattr(block, at)
    with ScoreCAM(model=model, target_layers=[layer], reshape_transform=lambda x: x.permute(0, 3, 1, 2)) as cam:
        cam.batch_size = 16
        # theirs interpolates masks with aligned corners, ours as all other maps do
        expected = torch.from_numpy(cam(given, targets=[ClassifierOutputTarget(1)] * 2))
    assert maps.max() == 1
    for mine, theirs in zip(maps, expected, strict=True):
        assert np.corrcoef(mine.flatten(), theirs.flatten())[0, 1] > 0.98


def test_score_cam_by_hand() -> None:
    model, given = libraries.timm_swin(), libraries.images(64, 64, batch=1)
    kept: list[Tensor] = []
    handle = model.layers[3].blocks[1].register_forward_hook(lambda _, __, out: kept.append(out[0]))
    scores, cams = [], []
    with torch.no_grad():
        model(given)
        handle.remove()
        for channel in kept[0].permute(2, 0, 1):
            wide = F.interpolate(channel[None, None], (64, 64), mode="bilinear")
            mask = (wide - wide.min()) / (wide.max() - wide.min())
            scores.append(model(given * mask)[0, 2])
            cams.append(channel)
    cam = (torch.stack(scores).softmax(dim=0)[:, None, None] * torch.stack(cams)).sum(dim=0).relu()
    expected = scaled(F.interpolate(cam[None, None], (64, 64), mode="bilinear")[:, 0])
    torch.testing.assert_close(score_cam(model, given, 2), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_integrated_gradients_and_others_are_those_of_captum(name: str) -> None:
    model, given, _ = libraries.build(name)
    found = IntegratedGradients(model).attribute(given, target=1, n_steps=8, method="riemann_middle")
    maps = integrated_gradients(model, given, 1, steps=8, batch_size=5)
    torch.testing.assert_close(maps, scaled(found.sum(dim=1).relu()).float(), rtol=0, atol=1e-4)
    product = InputXGradient(model).attribute(given.clone().requires_grad_(), target=1).sum(dim=1).relu()
    torch.testing.assert_close(gradient_input(model, given, 1), scaled(product.detach()), rtol=0, atol=1e-4)
    block = model.layers[2].blocks[1] if name == "timm" else model.features[5][1]
    # captum's weights are means over all but the first two dimensions: channels have to come second
    layer = nn.Sequential(block.norm1)
    block.norm1 = ChannelsLast(layer[0])
    raw = LayerGradCam(model, block.norm1.first).attribute(given, target=1, relu_attributions=True)
    wide = F.interpolate(raw.detach(), (64, 64), mode="bilinear")[:, 0]
    model_again, _, _ = libraries.build(name)
    torch.testing.assert_close(grad_cam(model_again, given, 1, stage=2, block=1), scaled(wide), rtol=0, atol=1e-4)


class ChannelsLast(nn.Module):
    """A norm whose output passes through a layer with channels second, for captum."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.first = norm, nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.first(self.norm(tokens).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return found


def test_integrated_gradients_are_complete() -> None:
    """Their sum is the difference of the logits of the image and of a blank one."""
    model, given = libraries.timm_swin(), 0.3 * libraries.images(64, 64, batch=1)
    shares = (torch.arange(64) + 0.5) / 64
    gradient = torch.stack([image_gradients(model, given * s, 1) for s in shares]).mean(dim=0)
    with torch.no_grad():
        difference = (model(given) - model(given * 0))[0, 1]
    assert float((gradient * given).sum()) == pytest.approx(float(difference), rel=0.02)
    with pytest.raises(InputError, match="steps: got 0"):
        integrated_gradients(model, given, 1, steps=0)


def test_rules_of_attn_lrp_by_hand() -> None:
    """Relevance passed on by the equations of the paper, layer by layer, where the library takes one gradient."""
    generator = torch.Generator().manual_seed(3)
    n, d = 5, 4
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    wq, wk, wv, wo = (torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(4))
    head = torch.randn(d, generator=generator, dtype=torch.float64)

    def forward(given: Tensor) -> Tensor:
        normed = F.layer_norm(given, (d,))
        q, k, v = normed @ wq, normed @ wk, normed @ wv
        attention = F.softmax(q @ k.T / 2, dim=-1)
        return (F.gelu((attention @ v) @ wo) @ head).sum()

    leaf = x.clone().requires_grad_()
    with LrpRules():
        output = forward(leaf)
    assert torch.allclose(output, forward(x))  # values stay
    (gradient,) = torch.autograd.grad(output, leaf)

    # by hand: forward values
    normed = F.layer_norm(x, (d,))
    q, k, v = normed @ wq, normed @ wk, normed @ wv
    s = q @ k.T / 2
    a = s.softmax(dim=-1)
    o = a @ v
    h = o @ wo
    y = F.gelu(h)

    def through_linear(given: Tensor, weight: Tensor, relevance: Tensor, out: Tensor) -> Tensor:
        return given * ((relevance / out) @ weight.T)  # ε-LRP with ε = 0

    r_h = y * head  # linear head: relevance of each summand; identity rule through GELU
    r_o = through_linear(o, wo, r_h, h)
    share = r_o / o
    r_a = a * (share @ v.T) / 2  # uniform rule: half to attention, half to values
    r_v = v * (a.T @ share) / 2
    r_s = s * (r_a - a * r_a.sum(dim=-1, keepdim=True))  # Taylor rule at the softmax, before s / s
    r_s = torch.where(s != 0, r_s, 0)
    share = r_s / s
    r_q, r_k = q * (share @ k / 2) / 2, k * (share.T @ q / 2) / 2
    r_n = sum(through_linear(normed, w, r, o_) for w, r, o_ in ((wq, r_q, q), (wk, r_k, k), (wv, r_v, v)))
    # layer norm with a constant scale is linear: (x - mean) · scale
    scale = 1 / (x.var(dim=-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    per = r_n / normed * scale
    r_x = x * (per - per.mean(dim=-1, keepdim=True))
    torch.testing.assert_close(gradient * x, r_x, rtol=1e-6, atol=1e-9)

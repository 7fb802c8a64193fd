"""Networks of a profile."""

import timm
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.models.networks import build_network
from tests.conftest import NO_NUMBERS


def _shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


def test_name_and_numbers_of_a_swin_give_the_same_network() -> None:
    name = "swin_tiny_patch4_window7_224"
    named = load_profile("smoke", [*NO_NUMBERS, f"model.architecture={name}"])
    numbers = ["model.channels=96", "model.depths=[2,2,6,2]", "model.heads=[3,6,12,24]"]
    by_hand = load_profile("smoke", numbers)
    by_name, by_numbers = build_network(named), build_network(by_hand)
    assert _shapes(by_name) == _shapes(by_numbers)
    assert str(by_name) == str(by_numbers)


def test_every_named_swin_is_that_of_timm() -> None:
    for name in timm.list_models(module="swin_transformer"):
        profile = load_profile("smoke", [*NO_NUMBERS, f"model.architecture={name}"])
        with torch.device("meta"):
            ours = build_network(profile)
        theirs = timm.create_model(name, num_classes=2, img_size=64, window_size=2, device="meta")
        assert _shapes(ours) == _shapes(theirs)


def test_windows_and_image_come_from_the_profile(tiny: Profile) -> None:
    model = build_network(tiny).eval()
    assert model.patch_embed.proj.in_channels == len(tiny.windows)
    assert {block.window_size for stage in model.layers for block in stage.blocks} == {(2, 2)}
    assert model(torch.zeros(3, 3, 32, 32)).shape == (3, 2)


def test_each_task_has_its_network() -> None:
    for task, outputs in (("binary", (2,)), ("subtype", (6,)), ("segmentation", (2, 64, 64))):
        profile = load_profile("smoke", [f"task={task}", "train.monitor=loss"])
        with torch.no_grad():
            logits = build_network(profile).eval()(torch.zeros(3, 3, 64, 64))
        assert logits.shape == (3, *outputs)


def test_one_seed_gives_every_task_the_same_backbone_and_a_head_initialised_as_in_timm() -> None:
    weights_of = {}
    for task in ("binary", "subtype"):
        torch.manual_seed(3)
        weights_of[task] = build_network(load_profile("smoke", [f"task={task}", "model.channels=96"])).state_dict()
    backbone = [name for name in weights_of["binary"] if not name.startswith("head.")]
    assert len(backbone) == len(weights_of["binary"]) - 2
    assert all(torch.equal(weights_of["binary"][name], weights_of["subtype"][name]) for name in backbone)
    for weights in weights_of.values():
        assert 0.018 < float(weights["head.fc.weight"].std()) < 0.022
        assert not weights["head.fc.bias"].any()

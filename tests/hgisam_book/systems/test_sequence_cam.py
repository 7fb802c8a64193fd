"""The sequence network: what the LSTM passes on, what Grad-CAM shows, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.maps.combine import to_unit_range, upsample
from hgisam_book.systems import sequence_cam
from hgisam_book.systems.sequence_cam import SequenceCam, SequenceNetwork, slice_cams
from hgisam_book.systems.training import fit_system, load_system, read_slices, scans
from tests.conftest import TINY, make_prepared

SYSTEMS = [SequenceCam(), SequenceCam(with_lstm=False)]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_cam, "CHANNELS", (16, 16, 32, 32))


@pytest.fixture
def profile() -> Profile:
    own = [f"study.trainings.resnet_lstm.train.{key}" for key in ("epochs=8", "learning_rate=1.0e-2")]
    still = [f"train.augment.{key}=0" for key in ("rotate_deg", "scale", "shift", "gain", "blur_px")]
    return load_profile("smoke", [*TINY, *own]).variant("resnet_lstm", ["train.batch_size=2", *still])


@pytest.fixture
def data(tmp_path: Path) -> PreparedDataset:
    return open_prepared(make_prepared(tmp_path / "set", patients=8, with_mask=False))


def network_of(system: SequenceCam, profile: Profile) -> SequenceNetwork:
    torch.manual_seed(0)
    return system.network(profile).eval()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
@torch.no_grad()
def test_only_the_lstm_tells_a_slice_of_its_neighbors(system: SequenceCam, profile: Profile) -> None:
    network, images = network_of(system, profile), torch.rand(4, 3, 32, 32)
    before = network(images, [4])
    changed = images.clone()
    changed[2] = 0
    moved = (network(changed, [4]) - before).abs() > 1e-6
    assert moved.tolist() == ([True] * 4 if system.with_lstm else [False, False, True, False])
    parted = (network(changed, [2, 2]) - network(images, [2, 2])).abs() > 1e-6
    assert parted.tolist() == [False, False, True, system.with_lstm]  # no context from another scan


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
@torch.no_grad()
def test_scans_of_a_batch_get_the_logits_that_they_get_alone(system: SequenceCam, profile: Profile) -> None:
    network, images = network_of(system, profile), torch.rand(7, 3, 32, 32)
    parts = [network(part, [len(part)]) for part in (images[:2], images[2:6], images[6:])]
    assert torch.allclose(network(images, [2, 4, 1]), torch.cat(parts), atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_maps_are_grad_cam(system: SequenceCam, profile: Profile, data: PreparedDataset) -> None:
    network, slices = network_of(system, profile), read_slices(data, scans(data)[0], profile)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        found = slice_cams(network, slices, torch.tensor([True, False, True, True, False, True]))
    features = network.features(slices.images)
    for at in (0, 2, 3, 5):  # by autograd through the average of the whole feature map
        logit = network.logits(features.mean(dim=(2, 3)), [6])[at]
        (gradient,) = torch.autograd.grad(logit, features, retain_graph=True)
        cam = (gradient[at].mean(dim=(1, 2))[:, None, None] * features[at]).sum(dim=0).relu()
        expected = to_unit_range(upsample(cam[None], (32, 32)), slices.brain[at : at + 1])[0]
        assert np.allclose(found[at], expected.detach(), atol=1e-4)
    assert not found[[1, 4]].any()
    assert found.max() == 1
    assert not found[slices.brain.numpy() == 0].any()


def test_only_slices_that_the_network_calls_bleeding_get_a_map(profile: Profile, data: PreparedDataset) -> None:
    system, rows = SequenceCam(), scans(data)[0]
    network = network_of(system, profile)
    logits = network(read_slices(data, rows, profile).images, [6]).detach()
    with torch.no_grad():
        network.head.bias -= logits.median()  # of six: the third
    found = system.maps(network, data, rows, profile)["resnet_lstm"]
    assert not found[(logits < logits.median()).numpy()].any()
    assert found[(logits >= logits.median()).numpy()].any()


def test_an_epoch_has_a_part_of_each_scan_that_bleeds_where_the_scan_does(
    profile: Profile, data: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [tuple(rows) for step in SequenceCam().examples(data, profile, 0) for rows in step.scans]
    assert sorted(whole) == sorted(tuple(rows) for rows in scans(data, "train"))  # shorter ones
    monkeypatch.setattr(sequence_cam, "LENGTH", 3)
    bleeds, starts = data.slices["any"].to_numpy() == 1, set()
    for epoch in range(20):
        steps = list(SequenceCam().examples(data, profile, epoch))
        parts = [rows for step in steps for rows in step.scans]
        assert [len(step.scans) for step in steps] == [2, 2]
        assert all(np.diff(rows).tolist() == [1, 1] for rows in parts)
        assert len({data.slices["study"].iloc[rows[0]] for rows in parts}) == 4
        assert sum(bleeds[rows].any() for rows in parts) == 2
        bleeding = bleeds[np.concatenate(parts)].mean()
        assert steps[0].positive_weight == pytest.approx((1 - bleeding) / bleeding)
        starts |= {int(data.slices["slice_index"].iloc[rows[0]]) for rows in parts if bleeds[rows].any()}
    assert starts == {0, 1, 2, 3}  # slices 2 and 3 of six bleed


def test_the_loss_weighs_bleeding_slices(profile: Profile, data: PreparedDataset) -> None:
    example, system = next(SequenceCam().examples(data, profile, 0)), SequenceCam()
    network = network_of(system, profile)
    logits: list[Tensor] = []
    network.register_forward_hook(lambda *args: logits.append(args[2]))
    loss = system.loss(network, system.read(example, data, profile, 0))
    bleeds = data.slices["any"].to_numpy()[np.concatenate(example.scans)]
    p = logits[0].sigmoid().detach().numpy()
    expected = -np.where(bleeds == 1, example.positive_weight * np.log(p), np.log(1 - p)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_it_learns_where_the_bright_square_is(profile: Profile, tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=12, size_px=64, with_mask=False))  # 8 × 8 cells
    system = SequenceCam()
    fit_system(system, profile, data, tmp_path)
    network, own = load_system(system, tmp_path)
    with torch.no_grad():
        assert system.validate(network, data, own) > 0.95
    (rows,) = (rows for rows in scans(data) if data.slices["study"].iloc[rows[0]] == "s2")  # of validation
    maps = system.maps(network, data, rows, own)["resnet_lstm"]
    assert maps.any(axis=(1, 2)).tolist() == [False, False, True, True, False, False]
    bright, brain = data.hu[rows] == 70, data.brain[rows] > 0
    assert maps[bright].mean() > 2 * maps[2:4][brain[2:4] & ~bright[2:4]].mean()


def test_two_trainings_are_equal(profile: Profile, data: PreparedDataset, tmp_path: Path) -> None:
    states = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        short = profile.model_copy(update={"train": profile.train.model_copy(update={"epochs": 1})})
        fit_system(SequenceCam(), short, data, tmp_path / name)
        states.append(load_system(SequenceCam(), tmp_path / name)[0].state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])

"""Multiple-instance learning from slices: the bag's logit in terms of its cells, and a toy cohort that it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam_book.systems.slice_mil import CellNetwork, SliceMil
from hgisam_book.systems.training import fit_system, load_system, read_slices, scans
from tests.conftest import TINY, make_prepared

SHORT = "study.trainings.slice_mil={task: binary, train.epochs: 10, train.learning_rate: 5.0e-3, train.augment.hide: 0}"
SYSTEM = SliceMil()
CELL_PX = 8


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", [*TINY, SHORT]).variant("slice_mil")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Twelve scans to train on, twelve for validation; every other one bleeds in two of six slices."""
    return open_prepared(make_prepared(tmp_path_factory.mktemp("data") / "set", patients=24, size_px=64))


@pytest.fixture(scope="module")
def trained(profile: Profile, data: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> CellNetwork:
    folder = tmp_path_factory.mktemp("network")
    fit_system(SYSTEM, profile, data, folder)
    network, _ = load_system(SYSTEM, folder)
    assert isinstance(network, CellNetwork)
    return network


def test_the_slice_s_logit_is_the_weighted_sum_of_its_cells_logits(
    trained: CellNetwork, data: PreparedDataset, profile: Profile
) -> None:
    images = read_slices(data, scans(data)[0], profile).images
    with torch.no_grad():
        logits, attention = trained.cells(images)
        slices = trained(images)
    assert logits.shape == attention.shape == (6, 64 // CELL_PX, 64 // CELL_PX)
    assert torch.allclose(attention.sum(dim=(1, 2)), torch.ones(6))
    expected = [sum((a * x).flatten().tolist()) for a, x in zip(attention, logits, strict=True)]
    assert np.allclose(slices.numpy(), expected, atol=1e-5)


def test_slices_are_balanced_and_depend_on_seed_and_epoch(data: PreparedDataset, profile: Profile) -> None:
    first, again, other = (np.concatenate(list(SYSTEM.examples(data, profile, epoch))) for epoch in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(set(first.tolist())) == len(first)
    assert data.slices["any"].iloc[first].mean() == 0.5
    assert set(data.slices["split"].iloc[first]) == {"train"}
    assert all(len(batch) <= profile.train.batch_size for batch in SYSTEM.examples(data, profile, 0))


def test_it_learns_which_slices_bleed_and_where(trained: CellNetwork, data: PreparedDataset, profile: Profile) -> None:
    with torch.no_grad():
        assert SYSTEM.validate(trained, data, profile) > 0.9
    near, peaks = [], {True: [], False: []}
    for rows in scans(data, "val"):
        for row, one in zip(rows, SYSTEM.maps(trained, data, rows, profile)["slice_mil"], strict=True):
            bleeds = data.slices["any"].iloc[row] == 1
            peaks[bool(bleeds)].append(one.max())
            if bleeds and data.mask is not None:
                middle = np.argwhere(np.asarray(data.mask[row]) > 0).mean(axis=0)
                near.append(np.abs(np.argwhere(one == one.max())[0] - middle).max() <= CELL_PX)
    assert np.mean(near) > 0.7
    assert np.mean(peaks[True]) > np.mean(peaks[False])


def test_maps_are_within_the_brain(trained: CellNetwork, data: PreparedDataset, profile: Profile) -> None:
    rows = scans(data, "val")[0]
    maps = SYSTEM.maps(trained, data, rows, profile)["slice_mil"]
    assert maps.shape == (6, 64, 64)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() <= maps.max() <= 1
    assert not maps[data.brain[rows] == 0].any()
    with torch.autocast("cpu", torch.bfloat16):
        assert np.allclose(SYSTEM.maps(trained, data, rows, profile)["slice_mil"], maps, atol=0.05)


def test_the_loss_is_that_of_the_labels_of_slices(
    trained: CellNetwork, data: PreparedDataset, profile: Profile
) -> None:
    rows = next(iter(SYSTEM.examples(data, profile, 0)))
    sets = (data, replace(data, slices=data.slices.assign(any=1 - data.slices["any"])))
    batch, inverted = (SYSTEM.read(rows, each, profile, 0) for each in sets)
    with torch.no_grad():
        assert SYSTEM.loss(trained, batch) < SYSTEM.loss(trained, inverted)


def test_every_profile_trains_it() -> None:
    for name in ("smoke", "laptop", "paper"):
        own = load_profile(name).variant("slice_mil")
        assert (own.task, own.train.augment.hide) == ("binary", 0)

"""Windows, preprocessing, sampling, loading."""

from pathlib import Path

import numpy as np
import torch

from hgisam.config.profile import Profile, Window, load_profile
from hgisam.data.batches import Batches, SliceDataset, balanced_sample, batch_loader
from hgisam.data.labels import LABELS
from hgisam.data.prepared import open_prepared
from hgisam.data.preprocess import Preprocessor, inpaint_beside_bone, soft_tissue
from hgisam.data.windows import apply_windows, to_uint8
from tests.conftest import make_prepared


def test_windows_by_hand() -> None:
    hu = torch.tensor([[[-1000, 0, 40, 80, 3000]]], dtype=torch.int16)
    brain = Window(name="brain", center_hu=40, width_hu=80)
    bone = Window(name="bone", center_hu=600, width_hu=2800)
    channels = apply_windows(hu, [brain, bone])
    assert channels.shape == (1, 2, 1, 5)
    assert channels[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]
    np.testing.assert_allclose(channels[0, 1, 0], [0, 800 / 2800, 840 / 2800, 880 / 2800, 1], rtol=1e-6)
    assert to_uint8(hu.numpy(), 40, 80).tolist() == [[[0, 0, 128, 255, 255]]]


def test_an_epoch_is_balanced_without_replacement_and_reproducible() -> None:
    rows = np.arange(100, 150)
    bleeds = np.arange(50) < 10
    sampled = balanced_sample(rows, bleeds, np.random.default_rng(3))
    assert len(sampled) == len(set(sampled)) == 20
    assert (sampled < 110).sum() == 10
    assert (sampled == balanced_sample(rows, bleeds, np.random.default_rng(3))).all()
    assert (sampled != balanced_sample(rows, bleeds, np.random.default_rng(4))).any()


def test_batches_hold_the_requested_rows_and_preprocessing_is_fitted_to_them(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    slices = SliceDataset(prepared)
    rows = np.array([5, 3, 40, 0, 7])
    got = list(batch_loader(slices, Batches(rows, 2)))
    assert [b.rows.tolist() for b in got] == [[5, 3], [40, 0], [7]]
    assert (got[1].hu.numpy() == prepared.hu[[40, 0]]).all()
    assert (got[1].brain.numpy() == prepared.brain[[40, 0]]).all()
    assert (got[1].labels.numpy() == prepared.slices[list(LABELS)].to_numpy()[[40, 0]]).all()
    assert got[1].mask is None
    masked = SliceDataset(prepared, with_mask=True)[rows].mask
    assert masked is not None
    assert (masked.numpy() == prepared.mask[rows]).all()  # type: ignore[union-attr]
    preprocess = Preprocessor.of(tiny).fit([slices[np.arange(40)], slices[np.arange(40, 48)]])
    mean, std = preprocess.mean, preprocess.std
    levelled, inside = soft_tissue(*slices[np.arange(48)][1:3], tiny.pixel_mm)
    channels = apply_windows(levelled, tiny.windows).movedim(1, 0)[:, inside]
    torch.testing.assert_close(mean, channels.mean(dim=1))
    torch.testing.assert_close(std, channels.std(dim=1, correction=0), rtol=1e-4, atol=1e-5)
    images = preprocess(*slices[np.arange(48)][1:3]).movedim(1, 0)
    assert (images[:, ~inside] == 0).all()
    torch.testing.assert_close(images[:, inside].mean(dim=1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(images[:, inside].std(dim=1), torch.ones(3), rtol=1e-3, atol=0)


def test_soft_tissue_is_at_one_hu_level_without_bone() -> None:
    hu = torch.tensor([[[20, 30, 50, 40, 300, 20, 30, -1000]]] * 2, dtype=torch.int16)
    brain = torch.tensor([[[1, 1, 1, 1, 1, 1, 1, 0]], [[0] * 8]])
    levelled, inside = soft_tissue(hu, brain, 1.5)
    assert levelled[0].tolist() == [[24, 34, 54, 44, 304, 24, 34, -996]]  # the median was 30
    assert inside[0].int().tolist() == [[1, 1, 1, 0, 0, 0, 1, 0]]  # without bone and its neighbours
    assert (levelled[1] == hu[1]).all()
    assert not inside[1].any()
    assert soft_tissue(hu, brain, 0.5)[1][0].int().tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0]
    ]  # 1 mm of edge is 2 pixels here


def test_partial_volume_beside_bone_is_inpainted() -> None:
    hu = torch.full((2, 16, 16), 30, dtype=torch.int16)
    brain = torch.ones(2, 16, 16, dtype=torch.uint8)
    hu[0, :, 8:12] = 60  # a bleed beside the bone in the first slice, none in the second
    hu[:, :, 12:], brain[:, :, 14:] = 900, 0
    levelled, tissue = soft_tissue(hu, brain, 1.0)
    assert not tissue[:, :, 11:].any()
    filled, inside = inpaint_beside_bone(levelled, tissue, brain, 1.0)
    assert (filled[tissue] == levelled[tissue]).all()
    assert inside[:, :, :14].all()
    assert not inside[:, :, 14:].any()
    blood, none = filled[0, 8, 11:14] - filled[0, 8, 0], filled[1, 8, 11:14] - filled[1, 8, 0]
    assert (blood > 20).all()
    assert blood.tolist() == sorted(blood.tolist())  # closer to the HU of the bleed farther outside
    torch.testing.assert_close(none, torch.zeros(3), rtol=0, atol=1e-3)
    images = Preprocessor.of(load_profile("smoke"))(hu, brain)
    assert torch.isfinite(images).all()


def test_batches_are_nearly_equal_and_split_over_processes_without_loss() -> None:
    rows = np.arange(23)
    sizes = [len(batch) for batch in Batches(rows, 8)]
    assert sizes == [8, 8, 7]
    whole = list(Batches(rows, 8))
    for first in (0, 1, 3):
        shares = [list(Batches(rows, 8, first=first, rank=rank, world=3)) for rank in range(3)]
        assert [len(share) for share in shares] == [3 - first] * 3
        for batch, *parts in zip(whole[first:], *shares, strict=True):
            assert sorted(np.concatenate(parts).tolist()) == batch.tolist()
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_data_set_too_large_for_memory_is_read_by_worker_processes(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    batches = Batches(np.array([5, 3, 40, 0, 7]), 2)
    small = SliceDataset(prepared)
    large = SliceDataset(prepared, most_bytes=0)
    assert small.in_memory
    assert not large.in_memory
    loader = batch_loader(large, batches, workers=2)
    assert loader.num_workers == 2
    assert batch_loader(small, batches, workers=2).num_workers == 0
    for a, b in zip(loader, batch_loader(small, batches), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


def test_the_published_recipe_scales_each_channel_of_the_whole_slice() -> None:
    profile = load_profile("smoke", ["train.recipe=published", "train.augment.hide=0"])
    hu = torch.tensor([[[-1000, 20, 60, 3000]]], dtype=torch.int16)
    images = Preprocessor.of(profile)(hu, torch.zeros(1, 1, 4))
    assert images[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]  # brain window: 0 to 80 HU
    constant = Preprocessor.of(profile)(torch.full((1, 2, 2), 50), torch.ones(1, 2, 2))
    assert (constant == 0).all()

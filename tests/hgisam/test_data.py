"""Windows, sampling, augmentation."""

from pathlib import Path

import numpy as np
import torch

from hgisam.data import (
    SliceDataset,
    augment,
    balanced_rows,
    batch_loader,
    channel_statistics,
    continue_to_bone,
    soft_tissue,
    to_images,
)
from hgisam.prepared import open_prepared
from hgisam.profile import Augment, Profile, Window, load_profile
from hgisam.windows import apply_windows, to_uint8
from tests.conftest import make_prepared

STILL = Augment(flip=0, rotate_deg=0, scale=0, shift=0, gain=0, noise_hu=0, blur_px=0, hide=0, hide_cells=4)


def test_windows_by_hand() -> None:
    hu = torch.tensor([[[-1000, 0, 40, 80, 3000]]], dtype=torch.int16)
    brain = Window(name="brain", center_hu=40, width_hu=80)
    bone = Window(name="bone", center_hu=600, width_hu=2800)
    channels = apply_windows(hu, [brain, bone])
    assert channels.shape == (1, 2, 1, 5)
    assert channels[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]
    np.testing.assert_allclose(channels[0, 1, 0], [0, 800 / 2800, 840 / 2800, 880 / 2800, 1], rtol=1e-6)
    assert to_uint8(hu.numpy(), 40, 80).tolist() == [[[0, 0, 128, 255, 255]]]


def test_an_epoch_is_balanced_without_repeats_and_replayable() -> None:
    rows = np.arange(100, 150)
    bleeds = np.arange(50) < 10
    drawn = balanced_rows(rows, bleeds, np.random.default_rng(3))
    assert len(drawn) == len(set(drawn)) == 20
    assert (drawn < 110).sum() == 10
    assert (drawn == balanced_rows(rows, bleeds, np.random.default_rng(3))).all()
    assert (drawn != balanced_rows(rows, bleeds, np.random.default_rng(4))).any()


def test_batches_read_the_asked_rows(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    slices = SliceDataset(prepared)
    rows = np.array([5, 3, 40, 0, 7])
    got = list(batch_loader(slices, rows, 2))
    assert [b[3].tolist() for b in got] == [[5, 3], [40, 0], [7]]
    assert (got[1][0].numpy() == prepared.hu.oindex[[40, 0]]).all()
    assert (got[1][1].numpy() == prepared.brain.oindex[[40, 0]]).all()
    slices.hu, slices.brain = prepared.hu, prepared.brain  # a set that is too large for memory is read slice by slice
    assert (slices[rows][0].numpy() == prepared.hu.oindex[rows]).all()
    mean, std = channel_statistics(slices, np.arange(48), tiny)
    levelled, inside = soft_tissue(*slices[np.arange(48)][:2], tiny.pixel_mm)
    channels = apply_windows(levelled, tiny.windows).movedim(1, 0)[:, inside]
    torch.testing.assert_close(mean, channels.mean(dim=1))
    torch.testing.assert_close(std, channels.std(dim=1, correction=0), rtol=1e-4, atol=1e-5)
    images = to_images(*slices[np.arange(48)][:2], tiny, mean, std).movedim(1, 0)
    assert (images[:, ~inside] == 0).all()
    torch.testing.assert_close(images[:, inside].mean(dim=1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(images[:, inside].std(dim=1), torch.ones(3), rtol=1e-3, atol=0)


def test_soft_tissue_is_at_one_level_and_free_of_bone() -> None:
    hu = torch.tensor([[[20, 30, 50, 40, 300, 20, 30, -1000]]] * 2, dtype=torch.int16)
    brain = torch.tensor([[[1, 1, 1, 1, 1, 1, 1, 0]], [[0] * 8]])
    levelled, inside = soft_tissue(hu, brain, 1.5)
    assert levelled[0].tolist() == [[24, 34, 54, 44, 304, 24, 34, -996]]  # the median was 30
    assert inside[0].int().tolist() == [[1, 1, 1, 0, 0, 0, 1, 0]]  # bone and its neighbours are out
    assert (levelled[1] == hu[1]).all()
    assert not inside[1].any()
    assert soft_tissue(hu, brain, 0.5)[1][0].int().tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0]
    ]  # 1 mm of edge is 2 pixels here


def test_tissue_is_continued_to_the_bone() -> None:
    hu = torch.full((2, 16, 16), 30, dtype=torch.int16)
    brain = torch.ones(2, 16, 16, dtype=torch.uint8)
    hu[0, :, 8:12], hu[:, :, 12:], brain[:, :, 14:] = (
        60,
        900,
        0,
    )  # a bleed under the bone in the first, none in the second
    levelled, tissue = soft_tissue(hu, brain, 1.0)
    assert not tissue[:, :, 11:].any()
    filled, inside = continue_to_bone(levelled, tissue, brain, 1.0)
    assert (filled[tissue] == levelled[tissue]).all()
    assert inside[:, :, :14].all()
    assert not inside[:, :, 14:].any()
    blood, none = filled[0, 8, 11:14] - filled[0, 8, 0], filled[1, 8, 11:14] - filled[1, 8, 0]
    assert (blood > 20).all()
    assert blood.tolist() == sorted(blood.tolist())  # the farther from the brain, the more it is like the bleed
    torch.testing.assert_close(none, torch.zeros(3), rtol=0, atol=1e-3)
    images = to_images(hu, brain, load_profile("smoke"), torch.zeros(3), torch.ones(3))
    assert torch.isfinite(images).all()


def test_no_augmentation_changes_nothing() -> None:
    hu = torch.randint(-1000, 1500, (3, 16, 16), dtype=torch.int16)
    brain = torch.randint(0, 2, (3, 16, 16), dtype=torch.uint8)
    same, inside = augment(hu, brain, STILL, torch.Generator())
    torch.testing.assert_close(same, hu.float(), atol=0.01, rtol=0)
    assert (inside == brain).all()


def test_each_augmentation_acts_within_its_range() -> None:
    hu = torch.full((64, 16, 16), 40, dtype=torch.int16)
    hu[:, 4:8, 2:6] = 70

    def changed(**settings: float) -> torch.Tensor:
        moved, brain = augment(hu, hu == 70, STILL.model_copy(update=settings), torch.Generator().manual_seed(0))
        if settings.keys() <= {"flip"}:
            assert (brain == (moved > 55)).all()
        return moved

    flipped = changed(flip=1.0)
    torch.testing.assert_close(flipped, hu.flip(2).float(), atol=0.01, rtol=0)
    noise = changed(noise_hu=5.0) - hu
    assert 0 < noise.std() < 5
    for settings in ({"rotate_deg": 30.0}, {"scale": 0.3}, {"shift": 0.2}, {"blur_px": 1.0}, {"gain": 0.2}):
        assert (changed(**settings) - hu).abs().max() > 1
    assert changed(shift=0.5).min() < -900  # beyond the field lies air


def test_hidden_cells_count_as_outside_the_brain() -> None:
    hu, brain = torch.full((64, 16, 16), 40.0), torch.ones(64, 16, 16)
    settings = STILL.model_copy(update={"hide": 0.25})
    same, shown = augment(hu, brain, settings, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, hu, atol=0.01, rtol=0)
    cells = shown.view(64, 4, 4, 4, 4)
    assert (cells == cells[:, :, :1, :, :1]).all()  # a cell is hidden as a whole
    assert abs(shown.mean() - 0.75) < 0.05
    assert len({tuple(image.flatten().tolist()) for image in shown}) > 50  # differently in each slice

"""Data augmentation: within its ranges, reproducible, and the same for any split of a batch."""

import numpy as np
import torch

from hgisam.config.profile import Augment, load_profile
from hgisam.data.augmentation import (
    Augmentation,
    _gamma_transform,
    _low_resolution,
    _sampling_grid,
    augment,
    sample_augmentation,
)

STILL = Augment(
    flip=0,
    rotate_deg=0,
    scale=0,
    shift=0,
    gain=0,
    noise_hu=0,
    blur_px=0,
    hide=0,
    hide_cells=4,
    gamma=0,
    low_resolution=0,
)


def changes_of(slices: torch.Tensor, **settings: float) -> Augmentation:
    """Augmentation of as many slices, with everything off that `settings` do not name."""
    return sample_augmentation(np.arange(len(slices)), STILL.model_copy(update=settings), 0, 0)


def test_the_sampling_grid_is_that_of_torch() -> None:
    affine = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.affine_grid(affine, [3, 1, 6, 9], align_corners=False)
    torch.testing.assert_close(_sampling_grid(affine, 6, 9), expected, rtol=0, atol=1e-6)


def test_no_augmentation_changes_nothing() -> None:
    hu = torch.randint(-1000, 1500, (3, 16, 16), dtype=torch.int16)
    brain = torch.randint(0, 2, (3, 16, 16), dtype=torch.uint8)
    same, inside = augment(hu, brain, changes_of(hu))
    torch.testing.assert_close(same, hu.float(), atol=0.01, rtol=0)
    assert (inside == brain).all()


def test_each_augmentation_acts_within_its_range() -> None:
    hu = torch.full((64, 16, 16), 40, dtype=torch.int16)
    hu[:, 4:8, 2:6] = 70

    def changed(**settings: float) -> torch.Tensor:
        moved, brain = augment(hu, hu == 70, changes_of(hu, **settings))
        if settings.keys() <= {"flip"}:
            assert (brain == (moved > 55)).all()
        return moved

    flipped = changed(flip=1.0)
    torch.testing.assert_close(flipped, hu.flip(2).float(), atol=0.01, rtol=0)
    noise = changed(noise_hu=5.0) - hu
    assert 0 < noise.std() < 5
    for settings in ({"rotate_deg": 30.0}, {"scale": 0.3}, {"shift": 0.2}, {"blur_px": 1.0}, {"gain": 0.2}):
        assert (changed(**settings) - hu).abs().max() > 1
    assert changed(shift=0.5).min() < -900  # air outside the field of view


def test_gamma_transform_keeps_the_bounds_of_soft_tissue() -> None:
    soft = torch.tensor([[-150.0, 0.0, 150.0]]).expand(2, 3, 3)
    transformed = _gamma_transform(soft, torch.tensor([2.0, 1.0]))
    assert transformed[0, 0].tolist() == [-150, -75, 150]  # (0, 1/2, 1) to the power of two
    assert torch.equal(transformed[1], soft[1])
    hu = torch.full((64, 8, 8), 75.0)
    sampled = augment(hu, hu, changes_of(hu, gamma=0.5))[0][:, 0, 0]
    least, most = (150 * (2 * 0.75 ** np.exp(power) - 1) for power in (0.5, -0.5))
    assert least <= sampled.min() < 60 < 90 < sampled.max() <= most


def test_low_resolution_averages_pixels() -> None:
    stripes = torch.tensor([0.0, 8.0]).repeat(2, 4, 2)  # [2, 4, 4], columns 0, 8, 0, 8
    half, same = _low_resolution(stripes, torch.tensor([0.5, 1.0]))
    assert (half == 4).all()
    assert torch.equal(same, stripes[1])
    zoom = changes_of(torch.zeros(400, 1, 1), low_resolution=0.6).zoom
    assert 0.45 < (zoom == 1).float().mean() < 0.55  # the other half is downsampled
    assert 0.4 < zoom.min() < 0.42


def test_the_rim_lies_along_the_edge_of_the_brain_and_is_uneven() -> None:
    at = torch.arange(64) - 31.5
    radius = torch.hypot(at[:, None], at)
    hu, brain = torch.full((200, 64, 64), 35.0), (radius < 28).float().expand(200, 64, 64)
    added = augment(hu, brain, changes_of(hu, rim_hu=40))[0] - 35
    assert added[:, radius < 12].abs().max() < 0.5  # the middle of the brain keeps its density
    edge, inner = (added[:, ring] for ring in ((radius > 26) & (radius < 27), (radius > 22) & (radius < 23)))
    assert edge.mean(dim=1).min() < -5  # a dark ring of fluid in some
    assert 20 < edge.mean(dim=1).max() < 60  # a bright rim in others
    assert edge.abs().mean() > 2 * inner.abs().mean() > 0
    assert (edge.std(dim=1) / edge.mean(dim=1).abs()).median() > 0.2  # more here, less there
    assert not augment(hu, torch.ones_like(hu), changes_of(hu, rim_hu=40))[0].sub(35).abs().gt(0.01).any()


def test_ranges_of_zero_leave_other_random_numbers_unchanged() -> None:
    settings = load_profile("laptop").train.augment.model_copy(update={"rim_hu": 0})
    wider = settings.model_copy(update={"gamma": 0.5, "low_resolution": 0.5, "rim_hu": 9})
    sampled, other = (sample_augmentation(np.arange(4), chosen, 1, 2) for chosen in (settings, wider))
    assert sampled.gamma.tolist() == sampled.zoom.tolist() == [1.0] * 4
    assert torch.equal(sampled.affine, other.affine)
    assert torch.equal(sampled.visible, other.visible)
    assert sampled.noise_seed == other.noise_seed


def test_hidden_cells_count_as_outside_the_brain() -> None:
    hu, brain = torch.full((64, 16, 16), 40.0), torch.ones(64, 16, 16)
    same, visible = augment(hu, brain, changes_of(hu, hide=0.25))
    torch.testing.assert_close(same, hu, atol=0.01, rtol=0)
    cells = visible.view(64, 4, 4, 4, 4)
    assert (cells == cells[:, :, :1, :, :1]).all()  # cells are hidden completely
    assert abs(visible.mean() - 0.75) < 0.05
    assert len({tuple(image.flatten().tolist()) for image in visible}) > 50  # other cells in each slice


def test_the_mask_moves_with_the_slice() -> None:
    hu = torch.full((8, 16, 16), 40, dtype=torch.int16)
    hu[:, 4:8, 2:6] = 70
    moved, brain, mask = augment(hu, torch.ones(8, 16, 16), changes_of(hu, flip=1.0, hide=0.5), (hu == 70) * 5)
    assert (mask == (moved > 55)).all()  # hidden cells are outside the brain, but keep their mask
    assert brain.mean() < 0.8


def test_the_augmentation_of_a_slice_does_not_depend_on_its_batch() -> None:
    settings = load_profile("laptop").train.augment
    hu, brain = torch.randint(-50, 90, (6, 16, 16)), torch.ones(6, 16, 16)
    rows = np.array([3, 14, 15, 92, 65, 35])
    together = augment(hu, brain, sample_augmentation(rows, settings, 7, 2))
    for part in (slice(0, 1), slice(1, 6, 2)):
        alone = augment(hu[part], brain[part], sample_augmentation(rows[part], settings, 7, 2))
        torch.testing.assert_close(alone[0], together[0][part], rtol=0, atol=1e-4)
        assert torch.equal(alone[1], together[1][part])
    for seed, epoch in ((8, 2), (7, 3)):
        other = augment(hu, brain, sample_augmentation(rows, settings, seed, epoch))
        assert (other[0] - together[0]).abs().mean() > 1

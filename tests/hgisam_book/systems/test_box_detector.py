"""The detector of boxes: it learns from boxes alone, its score is checked by hand, its maps are those of its boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from scipy import ndimage
from torch import Tensor

from hgisam.config.profile import Profile, load_profile
from hgisam.data.augmentation import augment, sample_augmentation
from hgisam.data.prepared import PreparedDataset, by_fold, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.score_maps import VALIDATION
from hgisam_book.studies.coarse_labels import dense_in_boxes
from hgisam_book.systems import segment_anything
from hgisam_book.systems.box_detector import (
    LEAST_SIDE_PX,
    Batch,
    BoxDetector,
    Detector,
    average_precision,
    detect,
    move,
    pixels_of,
    true_boxes,
)
from hgisam_book.systems.extraction import extract_system
from hgisam_book.systems.segment_anything import SAM_MAPS, SHA256
from hgisam_book.systems.training import fit_system, load_system, scans
from tests.conftest import TINY, make_prepared
from tests.sam_graphs import write_sam

SETTINGS = [*TINY, "train.augment.hide=0"]


@pytest.fixture
def profile() -> Profile:
    """Slices of 32 pixels, which the network sees at 64."""
    return load_profile("smoke", SETTINGS).variant("box_detector", ["train.fold=0"])


@pytest.fixture
def data(tmp_path: Path) -> PreparedDataset:
    """Eight patients, of which every other bleeds a square of 6 pixels, in four folds."""
    return by_fold(open_prepared(make_prepared(tmp_path / "ct-ich")), 0)


def found(*detections: tuple[list[float], float]) -> tuple[Tensor, Tensor]:
    corners, scores = zip(*detections, strict=True) if detections else ((), ())
    return torch.tensor(corners).reshape(-1, 4), torch.tensor(scores)


def test_average_precision_and_the_threshold_by_hand() -> None:
    square, other, far = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [50.0, 50, 60, 60]
    detections = [
        found((square, 0.9), ([1.0, 0, 11, 10], 0.8), (far, 0.3)),  # a hit, the same bleed again, nothing there
        found((other, 0.7)),  # a hit
        found((far, 0.95)),  # in a slice without blood
    ]
    truth = [torch.tensor([square, other]), torch.tensor([other]), torch.zeros(0, 4)]
    # by score: miss .95, hit .9, miss .8, hit .7, miss .3; three bleeds
    precision, threshold = average_precision(detections, truth)
    assert precision == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert threshold == pytest.approx(0.7)  # F1 of 4 / 7; of 2 / 5 at .9
    assert average_precision([found()], [torch.tensor([square])]) == (0.0, 1.0)
    assert average_precision([found((square, 0.9))], [torch.tensor([square])]) == pytest.approx((1.0, 0.9))


def test_an_overlap_of_three_tenths_is_a_hit_and_less_is_none() -> None:
    truth = [torch.tensor([[0.0, 0, 10, 10]])]
    assert average_precision([found(([0.0, 0, 10, 3.1], 0.9))], truth)[0] == 1
    assert average_precision([found(([0.0, 0, 10, 2.9], 0.9))], truth)[0] == 0


def test_boxes_move_with_their_slices(profile: Profile) -> None:
    settings = profile.train.augment.model_copy(update={"scale": 0.2, "shift": 0.1, "rotate_deg": 0.0})
    size, rows = 64, np.arange(6)
    mask = torch.zeros(6, size, size)
    mask[:, 20:31, 12:33] = 1
    changes = sample_augmentation(rows, settings, seed=0, epoch=0)
    assert len({float(affine[0, 0]) > 0 for affine in changes.affine}) == 2, "some are flipped"
    _, _, moved = augment(torch.zeros(6, size, size), torch.ones(6, size, size), changes, mask)
    for affine, image in zip(changes.affine, moved, strict=True):
        (box,) = move(torch.tensor([[12.0, 20, 33, 31]]), affine, size)
        at = image.nonzero()
        (top, left), (bottom, right) = at.amin(dim=0), at.amax(dim=0) + 1
        assert torch.allclose(box, torch.stack([left, top, right, bottom]).float(), atol=0.6)
    away = torch.tensor([[1.0, 0, 4], [0, 1, 0]])
    assert move(torch.tensor([[12.0, 20, 33, 31]]), away, size).shape == (0, 4)


def test_true_boxes_are_those_of_the_mask_but_never_tiny(data: PreparedDataset, profile: Profile) -> None:
    rows = data.rows()
    for row, each in zip(rows, true_boxes(data, rows, profile), strict=True):
        mask = data.mask[[row]][0] > 0
        assert len(each) == mask.any()
        if len(each):
            down, across = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            expected = [across[0], down[0], across[-1] + 1, down[-1] + 1]
            np.testing.assert_array_equal(each[0], expected)
    single = np.zeros((1, 32, 32), np.uint8)
    single[0, 10, 20] = 1
    (tiny,) = true_boxes(replace(data, mask=single), np.array([0]), profile)
    half = LEAST_SIDE_PX / 4  # the network sees two pixels for one
    np.testing.assert_array_equal(tiny[0], [20.5 - half, 10.5 - half, 20.5 + half, 10.5 + half])


def batches_of(data: PreparedDataset, profile: Profile, epoch: int = 0) -> list[Batch]:
    """All batches of an epoch."""
    system = BoxDetector()
    return [system.read(example, data, profile, epoch) for example in system.examples(data, profile, epoch)]


def test_masks_of_another_shape_with_the_same_boxes_train_alike(data: PreparedDataset, profile: Profile) -> None:
    masks = data.mask[:]
    inner = np.stack([ndimage.binary_erosion(mask > 0) for mask in masks])
    hollow = np.where(inner, 0, masks)
    assert (hollow > 0).sum() < (masks > 0).sum()
    batches, others = (batches_of(replace(data, mask=mask), profile, epoch=1) for mask in (masks, hollow))
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch.images, other.images)
        assert all(torch.equal(one, two) for one, two in zip(batch.boxes, other.boxes, strict=True))


def test_half_of_the_slices_have_no_blood_and_passes_differ(data: PreparedDataset, profile: Profile) -> None:
    bleeding = (data.slices["any"].to_numpy()[data.rows("train")] == 1).sum()
    once = batches_of(data, profile)
    counts = [len(each) for batch in once for each in batch.boxes]
    assert len(counts) == 2 * bleeding
    assert sum(count > 0 for count in counts) == bleeding
    twice = profile.model_copy(update={"train": profile.train.model_copy(update={"passes": 2})})
    both = batches_of(data, twice)
    assert len(both) == 2 * len(once)
    assert torch.equal(both[0].images, once[0].images)
    assert not torch.equal(both[len(once)].images, once[0].images)


def test_it_learns_to_find_squares_and_its_threshold_is_stored(
    data: PreparedDataset, profile: Profile, tmp_path: Path
) -> None:
    rng, bleeds = np.random.default_rng(0), np.flatnonzero(data.slices["any"] == 1)
    hu, mask = data.hu[:].copy(), np.zeros_like(data.mask[:])
    for row, (top, left, side) in zip(bleeds, rng.integers((6, 6, 8), (14, 14, 13), (len(bleeds), 3)), strict=True):
        square = (row, slice(top, top + side), slice(left, left + side))
        hu[square], mask[square] = 70, 6
    hu[mask == 0] = np.minimum(hu[mask == 0], 35)
    data = replace(data, hu=hu, mask=mask)
    overrides = ["train.epochs=2", "train.passes=8", "train.patience=9", "train.learning_rate=2e-3"]
    plain = [f"train.augment.{name}=0" for name in ("rim_hu", "low_resolution", "gamma", "scale", "gain", "noise_hu")]
    learns = load_profile("smoke", SETTINGS).variant("box_detector", [*overrides, *plain])
    system = BoxDetector()
    fit_system(system, learns, data, tmp_path)
    network, own = load_system(system, tmp_path)
    assert system.validate(network, data, own) > 0.8
    threshold = float(network.get_buffer("score_threshold"))
    assert threshold == pytest.approx(float(load_system(system, tmp_path)[0].get_buffer("score_threshold")))
    assert 0 < threshold < 1
    for rows in scans(data, "test"):
        maps = system.maps(network, data, rows, own)
        assert set(maps) == {"box_otsu"}
        truth = data.mask[rows] > 0
        assert maps["box_otsu"].shape == truth.shape
        overlap = 2 * (maps["box_otsu"] * truth).sum() / max(maps["box_otsu"].sum() + truth.sum(), 1)
        assert overlap > 0.7 if truth.any() else not maps["box_otsu"].any()


def test_loss_and_detections_in_low_precision(data: PreparedDataset, profile: Profile) -> None:
    torch.manual_seed(0)
    system, network = BoxDetector(), BoxDetector().network(profile)
    batch = batches_of(data, profile)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = system.loss(network.train(), batch)
        in_autocast = detect(network.eval(), batch.images)
    assert low.dtype == torch.float32
    assert float(low.detach()) == pytest.approx(float(system.loss(network.train(), batch).detach()), rel=0.05)
    network.fcos.score_thresh = 0.0
    for one, two in zip(detect(network.eval(), batch.images), detect(network, batch.images[:2]), strict=False):
        assert torch.allclose(one[1], two[1], atol=1e-5)
    assert all(scores.dtype == torch.float32 for _, scores in in_autocast)
    empty = batch._replace(boxes=[torch.zeros(0, 4)] * len(batch.boxes))
    assert torch.isfinite(system.loss(network.train(), empty))


def test_the_network_sees_any_number_of_windows_and_upsamples_at_most_twice() -> None:
    detector = Detector(1, 64).eval()
    with torch.no_grad():
        images, _ = detector.fcos.transform(list(torch.rand(1, 1, 32, 32)))
        assert images.tensors.shape == (1, 1, 64, 64)
        assert len(detector(torch.rand(2, 1, 32, 32))) == 2


def test_pixels_of_a_box_are_in_the_slice() -> None:
    assert pixels_of(np.array([2.4, 3.0, 7.1, 9.0], np.float32), 32) == (slice(3, 9), slice(2, 8))
    assert pixels_of(np.array([31.9, -1.0, 33.0, -0.5], np.float32), 32) == (slice(0, 1), slice(31, 32))


class Fixed(torch.nn.Module):
    """Finds one box in every slice, and another with a score below the threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("score_threshold", torch.tensor(0.5))

    def forward(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        corners = torch.tensor([[8.0, 8, 24, 24], [0, 0, 32, 32]])
        return [(corners, torch.tensor([0.6, 0.4]))] * len(images)


def test_maps_of_segment_anything_are_for_test_slices(
    data: PreparedDataset, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_anything, "SHA256", write_sam(tmp_path / "sam"))
    system, rows = BoxDetector(sam=str(tmp_path / "sam")), scans(data, "test")[0][:3]
    maps = system.maps(Fixed(), data, rows, profile)
    assert set(maps) == {"box_otsu", *SAM_MAPS}
    pixel_mm = float(data.slices["pixel_mm"].iloc[0])
    for index, row in enumerate(rows):
        dense = dense_in_boxes(data.hu[[row]][0], data.brain[[row]][0], [(slice(8, 24), slice(8, 24))], pixel_mm)
        np.testing.assert_array_equal(maps["box_otsu"][index], dense)
    for values in maps.values():
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
        assert not values[data.brain[rows] == 0].any()
    for name, values in system.maps(Fixed(), data, rows, profile).items():
        np.testing.assert_array_equal(values, maps[name])
    assert set(system.maps(Fixed(), data, scans(data, "val")[0][:1], profile)) == {"box_otsu"}


def test_maps_are_written_for_test_and_validation(data: PreparedDataset, profile: Profile, tmp_path: Path) -> None:
    short = profile.model_copy(update={"train": profile.train.model_copy(update={"epochs": 1, "passes": 1})})
    fit_system(BoxDetector(), short, data, tmp_path)
    extract_system(BoxDetector(), short, data, {0: tmp_path}, tmp_path)
    assert set(zarr.open_group(tmp_path / "maps.zarr").array_keys()) == {"box_otsu", "box_otsu" + VALIDATION}


def test_what_its_maps_depend_on(tmp_path: Path) -> None:
    assert BoxDetector().inputs() == {}
    assert BoxDetector(sam=tmp_path).inputs() == SHA256
    with pytest.raises(InputError, match=r"encoder\.onnx: got no such file"):
        _ = BoxDetector(sam=tmp_path).segmenter


def test_boxes_need_masks(profile: Profile, tmp_path: Path) -> None:
    without = by_fold(open_prepared(make_prepared(tmp_path / "rsna", with_mask=False)), 0)
    with pytest.raises(InputError, match="mask"):
        batches_of(without, profile)

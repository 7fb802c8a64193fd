"""Multiple-instance learning from exams: sparsemax, Grad-CAM against a linear network, and a toy cohort to learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam_book.systems import exam_mil
from hgisam_book.systems.exam_mil import ExamMil, ExamNetwork, explain_exam, sparsemax
from hgisam_book.systems.training import fit_system, load_system, read_slices, scans
from tests.conftest import TINY, make_prepared

SHORT = "study.trainings.exam_mil={task: binary, train.epochs: 8, train.learning_rate: 2.0e-3, train.augment.hide: 0}"
SYSTEM = ExamMil()
CELL_PX = 16  # pixels of the prepared slice per cell of the feature map


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("smoke", [*TINY, SHORT]).variant("exam_mil")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Ten exams to train on, ten for validation; every other one bleeds in two of six slices."""
    return open_prepared(make_prepared(tmp_path_factory.mktemp("data") / "set", patients=20, size_px=64))


@pytest.fixture(scope="module")
def trained(profile: Profile, data: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> ExamNetwork:
    folder = tmp_path_factory.mktemp("network")
    fit_system(SYSTEM, profile, data, folder)
    network, _ = load_system(SYSTEM, folder)
    assert isinstance(network, ExamNetwork)
    return network


@pytest.fixture
def untrained(profile: Profile) -> ExamNetwork:
    torch.manual_seed(0)
    network = SYSTEM.network(profile).eval()
    assert isinstance(network, ExamNetwork)
    return network


@pytest.mark.parametrize("seed", range(5))
def test_sparsemax_is_the_projection_on_the_simplex(seed: int) -> None:
    scores = torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = sparsemax(scores).numpy()
    threshold = brentq(lambda t: np.clip(scores.numpy() - t, 0, None).sum() - 1, -10, 10, xtol=1e-12)
    assert np.allclose(found, np.clip(scores.numpy() - threshold, 0, None), atol=1e-9)
    assert np.isclose(found.sum(), 1)
    assert (found == 0).any()
    assert torch.autograd.gradcheck(sparsemax, scores.requires_grad_())


def test_sparsemax_of_equal_and_of_far_scores() -> None:
    assert torch.allclose(sparsemax(torch.zeros(4)), torch.full((4,), 0.25))
    assert sparsemax(torch.tensor([0.0, 5.0, 1.0])).tolist() == [0, 1, 0]
    assert sparsemax(torch.tensor([-3.0])).tolist() == [1]


def test_exams_are_balanced_and_depend_on_seed_and_epoch(data: PreparedDataset, profile: Profile) -> None:
    bleeds = data.slices["any"].to_numpy()
    scarce = replace(data, slices=data.slices.assign(any=np.where(data.slices["patient"] == "p0", bleeds, 0)))
    found = list(SYSTEM.examples(scarce, profile, 0))
    assert sorted(bleeds[rows].any() and rows[0] == 0 for rows in found) == [False, True]
    first, again, other = ([exam.tolist() for exam in SYSTEM.examples(data, profile, epoch)] for epoch in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(rows.tolist() for rows in scans(data, "train"))


def test_the_loss_knows_only_whether_the_exam_bleeds(
    untrained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    exam = next(rows for rows in SYSTEM.examples(data, profile, 0) if data.slices["any"].iloc[rows].any())
    sets = (data, *(replace(data, slices=data.slices.assign(any=label)) for label in (1, 0)))
    bleeding, everywhere, healthy = (SYSTEM.read(exam, each, profile, 0) for each in sets)
    assert torch.equal(SYSTEM.loss(untrained, bleeding), SYSTEM.loss(untrained, everywhere))
    assert not torch.equal(SYSTEM.loss(untrained, bleeding), SYSTEM.loss(untrained, healthy))


def test_grad_cam_of_a_single_slice_is_that_of_a_linear_network(
    untrained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    rows = np.array([2])
    slices = read_slices(data, rows, profile)
    with torch.no_grad():
        cells = untrained.cells(slices.images)[0]  # [K, h, w]
        of_feature = (untrained.head.weight @ untrained.reduce[0].weight)[0]  # the logit's slope, [K]
        expected = torch.einsum("k,khw->hw", of_feature, cells).relu()
        upsampled = torch.nn.functional.interpolate(expected[None, None], (64, 64), mode="bilinear")[0, 0]
        upsampled *= slices.brain[0]
        logit = untrained(slices.images)
    found = explain_exam(untrained, data, rows, profile)
    assert found.attention.tolist() == [1]
    assert np.isclose(found.probability, float(logit.sigmoid()), atol=1e-6)
    assert upsampled.max() > 0
    assert np.allclose(found.grad_cam[0], (upsampled / upsampled.max()).numpy(), atol=1e-5)


def test_it_learns_which_exams_and_which_slices_bleed(
    trained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    with torch.no_grad():
        assert SYSTEM.validate(trained, data, profile) > 0.9
    near = []
    for rows in scans(data, "val"):
        bleeds = data.slices["any"].to_numpy()[rows] == 1
        found = explain_exam(trained, data, rows, profile)
        assert (found.probability > 0.5) == bleeds.any()
        assert np.isclose(found.attention.sum(), 1, atol=1e-5)
        if not bleeds.any():
            continue
        assert found.attention[bleeds].sum() > 0.7
        maps = SYSTEM.maps(trained, data, rows, profile)["exam_mil"]
        for row, one in zip(rows[bleeds], maps[bleeds], strict=True):
            middle = np.argwhere(np.asarray(data.mask[row]) > 0).mean(axis=0) if data.mask is not None else [0, 0]
            near.append(one.max() > 0 and np.abs(np.argwhere(one == one.max())[0] - middle).max() <= CELL_PX)
    assert np.mean(near) > 0.7


def test_maps_are_within_the_brain_and_empty_off_the_support(
    trained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    rows = scans(data, "val")[0]
    found, maps = explain_exam(trained, data, rows, profile), SYSTEM.maps(trained, data, rows, profile)["exam_mil"]
    assert maps.shape == found.grad_cam.shape == (6, 64, 64)
    assert maps.dtype == np.float32
    assert (maps.min(), maps.max()) == (0, 1)
    assert not maps[data.brain[rows] == 0].any()
    assert (found.attention == 0).any()
    assert not maps[found.attention == 0].any()


def test_maps_need_no_gradient_mode_and_leave_the_network_alone(
    trained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    rows = scans(data, "val")[0]
    expected = SYSTEM.maps(trained, data, rows, profile)["exam_mil"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(SYSTEM.maps(trained, data, rows, profile)["exam_mil"], expected)
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_an_exam_without_evidence_has_empty_maps(
    untrained: ExamNetwork, data: PreparedDataset, profile: Profile
) -> None:
    torch.nn.init.zeros_(untrained.head.weight)
    assert not SYSTEM.maps(untrained, data, scans(data, "val")[0], profile)["exam_mil"].any()
    assert not exam_mil.to_unit_peak(np.zeros((1, 2, 2), np.float32)).any()


@pytest.mark.parametrize(("label", "got"), [(1, "only exams with a bleed"), (0, "no exam with a bleed")])
def test_exams_of_one_class_are_one_error(
    untrained: ExamNetwork, data: PreparedDataset, profile: Profile, label: int, got: str
) -> None:
    alike = replace(data, slices=data.slices.assign(any=label))
    with pytest.raises(InputError, match=f"split train of set: got {got}"):
        next(SYSTEM.examples(alike, profile, 0))
    with pytest.raises(InputError, match=f"split val of set: got {got}"), torch.no_grad():
        SYSTEM.validate(untrained, alike, profile)


def test_every_profile_trains_it(tmp_path: Path) -> None:
    for name in ("smoke", "laptop", "paper"):
        own = load_profile(name).variant("exam_mil")
        assert (own.task, own.train.augment.hide) == ("binary", 0)

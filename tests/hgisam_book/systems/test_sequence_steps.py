"""The steps of the sequence network: maps, pseudo-masks of the weakly labelled slices, and the U-Net after them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.runs.manifest import read_manifest
from hgisam_book.systems import sequence_cam
from hgisam_book.systems.extraction import SystemsRun
from hgisam_book.systems.pseudo_masks import pseudo_masks
from hgisam_book.systems.sequence_cam import SequenceCam
from hgisam_book.systems.sequence_steps import sequence_cam_step, write_pseudo_set
from tests.conftest import TINY, make_prepared

SMALL = "study.trainings.resnet_lstm_unet={task: segmentation, train.monitor: dice, train.augment.hide: 0}"


def profile_with(*more: str) -> Profile:
    return load_profile("smoke", [*TINY, SMALL, "segmenter.channels=[8,16]", "train.epochs=1", *more])


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> SystemsRun:
    """All steps of a run whose prepared sets have 12 patients each."""
    runs = tmp_path_factory.mktemp("runs")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("test", "val"))):
        with_mask = name == "ct-ich"
        make_prepared(
            runs / "smoke" / "prepared" / name, patients=12, splits=splits, seed=len(name), with_mask=with_mask
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_cam, "CHANNELS", (16, 16, 32, 32))
        return sequence_cam_step(profile_with(), runs)


def test_each_part_has_its_network_and_maps(steps: SystemsRun) -> None:
    assert set(steps.networks) == set(steps.maps) == {"resnet_lstm", "resnet_slices", "resnet_lstm_unet"}
    assert all((folder / "model.safetensors").is_file() for folder in steps.networks.values())
    assert {folder.parents[1].name for folder in (*steps.networks.values(), *steps.maps.values())} == {"price"}
    found = read_score_maps(*(folder / "maps.zarr" for folder in steps.maps.values()))
    assert set(found) == {"resnet_lstm", "resnet_slices", "resnet_lstm_pseudo", "rule_alone", "resnet_lstm_unet"}
    data = open_prepared(steps.maps["resnet_lstm"].parents[2] / "prepared" / "ct-ich")
    for maps, _ in found.values():
        values = np.asarray(maps[:], np.float32)
        assert values.shape == data.hu.shape
        assert 0 <= values.min() <= values.max() <= 1
        assert not values[data.brain[:] == 0].any()


def test_the_rule_is_that_of_the_maps(steps: SystemsRun) -> None:
    data = open_prepared(steps.maps["resnet_lstm"].parents[2] / "prepared" / "ct-ich")
    cam, _ = read_score_maps(steps.maps["resnet_lstm"] / "maps.zarr")["resnet_lstm"]
    brain = (data.brain[:] > 0).astype(np.float32)
    for name, region in (("resnet_lstm_pseudo", np.asarray(cam[:], np.float32)), ("rule_alone", brain)):
        rule, _ = read_score_maps(steps.maps["resnet_lstm_unet"] / "maps.zarr")[name]
        assert np.array_equal(rule[:] > 0, pseudo_masks(data.hu[:], data.brain[:], region, 200 / 32))
        assert (rule[:] > 0).any()


def test_only_bleeding_slices_get_a_pseudo_mask(steps: SystemsRun) -> None:
    pseudo = open_prepared(steps.maps["resnet_lstm_unet"].parent / "labels" / "dataset")
    bleeds = pseudo.slices["any"].to_numpy() == 1
    assert bleeds.sum() == (~bleeds).sum() == 12
    assert pseudo.mask is not None
    masks = pseudo.mask[:] > 0
    assert not masks[~bleeds].any()
    weak = open_prepared(steps.maps["resnet_lstm_unet"].parents[2] / "prepared" / "rsna")
    keys = ["study", "slice_index"]
    rows = pd.MultiIndex.from_frame(weak.slices[keys]).get_indexer(pd.MultiIndex.from_frame(pseudo.slices[keys]))
    assert np.array_equal(weak.hu[rows], pseudo.hu[:])


def test_slices_of_a_certain_network_get_the_dense_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = open_prepared(make_prepared(tmp_path / "weak", with_mask=False, field_mm=100))
    rows, cols = np.mgrid[:32, :32]
    wide = np.exp(-((rows - 16) ** 2 + (cols - 16) ** 2) / 200).astype(np.float32)

    def everywhere(network: object, slices: sequence_cam.Slices, chosen: torch.Tensor) -> sequence_cam.Maps:
        return wide * slices.brain.numpy() * chosen.numpy()[:, None, None]

    monkeypatch.setattr("hgisam_book.systems.sequence_steps.slice_cams", everywhere)
    profile = profile_with()
    write_pseudo_set(SequenceCam().network(profile), profile, weak, tmp_path)
    pseudo = open_prepared(tmp_path / "dataset")
    assert pseudo.mask is not None
    masks, blood = pseudo.mask[:] == 6, pseudo.hu[:] == 70
    assert 2 * (masks & blood).sum() / (masks.sum() + blood.sum()) > 0.8  # smoothing rounds the corners


def test_a_second_call_finds_all_done(steps: SystemsRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_cam, "CHANNELS", (16, 16, 32, 32))
    folders = [*steps.networks.values(), *steps.maps.values()]
    before = [read_manifest(folder)["started"] for folder in folders]
    assert sequence_cam_step(profile_with(), folders[0].parents[3]) == steps
    assert [read_manifest(folder)["started"] for folder in folders] == before

"""Training of the systems of the ladder, with the smallest one there can be: a convolution of the blood window."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, by_fold, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.runs.files import read_json
from hgisam.runs.manifest import read_manifest
from hgisam_book.recorded.export import export_system
from hgisam_book.recorded.reuse import RECORDED, trainings_of
from hgisam_book.systems.extraction import system_maps_step
from hgisam_book.systems.training import Maps, Rows, Slices, load_system, read_slices, scans, train_system
from tests.conftest import TINY, make_prepared

STEP = "price/brightness/network"


@dataclass(frozen=True)
class Brightness:
    """A slice bleeds if its brightest pixel does."""

    name: str = "brightness"

    def network(self, profile: Profile) -> nn.Module:
        return nn.Conv2d(len(profile.windows), 1, 1)

    def examples(self, data: PreparedDataset, profile: Profile, epoch: int) -> Iterator[Rows]:
        yield from scans(data, "train")

    def read(self, example: Rows, data: PreparedDataset, profile: Profile, epoch: int) -> Slices:
        return read_slices(data, example, profile, epoch)

    def loss(self, network: nn.Module, batch: Slices) -> Tensor:
        logits = network(batch.images).amax(dim=(1, 2, 3))
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.labels[:, 0].float())

    def validate(self, network: nn.Module, data: PreparedDataset, profile: Profile) -> float:
        losses = [self.loss(network, read_slices(data, rows, profile)) for rows in scans(data, "val")]
        return -float(torch.stack(losses).mean())

    def maps(self, network: nn.Module, data: PreparedDataset, rows: Rows, profile: Profile) -> dict[str, Maps]:
        slices = read_slices(data, rows, profile)
        with torch.no_grad():
            probability = network(slices.images)[:, 0].sigmoid() * slices.brain
        return {self.name: probability.float().numpy()}


@pytest.fixture
def profile() -> Profile:
    short = "study.trainings.live={task: binary, train.epochs: 3, train.learning_rate: 0.1, train.augment.hide: 0}"
    return load_profile("smoke", [*TINY, short])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    make_prepared(tmp_path / "runs" / "smoke" / "prepared" / "rsna", patients=12)
    make_prepared(tmp_path / "runs" / "smoke" / "prepared" / "ct-ich", patients=12, splits=("val", "test"))
    return tmp_path / "runs"


def trained(profile: Profile, runs: Path, take_from: Path | None = None) -> Path:
    return train_system(Brightness(), profile.variant("live"), runs, STEP, take_from)


def test_the_best_epoch_is_kept_and_found_done(profile: Profile, runs: Path) -> None:
    folder = trained(profile, runs)
    history = pd.read_csv(folder / "train.csv")
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert read_json(folder / "model.json")["validation"]["val_score"] == history["val_score"].max()
    made = read_manifest(folder)["started"]
    assert read_manifest(trained(profile, runs))["started"] == made
    assert trainings_of(runs / "smoke") == [folder]


def test_two_trainings_are_equal(profile: Profile, runs: Path, tmp_path: Path) -> None:
    first = load_system(Brightness(), trained(profile, runs))[0].state_dict()
    make_prepared(tmp_path / "again" / "smoke" / "prepared" / "rsna", patients=12)
    second = load_system(Brightness(), trained(profile, tmp_path / "again"))[0].state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.usefixtures("bfloat16")
def test_an_epoch_is_read_step_by_step_and_in_float32(
    profile: Profile, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Low precision would blur HU by up to 5, and all batches of an epoch together may not fit into memory."""
    seen: list[str] = []
    read, loss = Brightness.read, Brightness.loss

    def read_first(*given: Any) -> Slices:
        seen.append("read in low precision" if torch.is_autocast_enabled("cpu") else "read")
        return read(*given)

    def loss_then(*given: Any) -> Tensor:
        if torch.is_grad_enabled():
            seen.append("step in low precision" if torch.is_autocast_enabled("cpu") else "step")
        return loss(*given)

    monkeypatch.setattr(Brightness, "read", read_first)
    monkeypatch.setattr(Brightness, "loss", loss_then)
    low = profile.model_copy(update={"compute": profile.compute.model_copy(update={"precision": "bf16-mixed"})})
    trained(low, runs)
    assert seen
    assert seen == ["read", "step in low precision"] * (len(seen) // 2)


def test_a_recorded_network_is_reused_on_the_same_slices_only(profile: Profile, runs: Path, tmp_path: Path) -> None:
    folder = trained(profile, runs)
    export_system(folder, tmp_path / "records" / "first" / STEP)
    make_prepared(tmp_path / "again" / "smoke" / "prepared" / "rsna", patients=12)
    reused = trained(profile, tmp_path / "again", tmp_path / "records")
    note = read_json(reused / RECORDED)
    assert (note["run"], note["metric"]) == ("first", "val_score")
    assert abs(note["then"] - note["now"]) < 1e-3  # float16
    make_prepared(tmp_path / "other" / "smoke" / "prepared" / "rsna", patients=16)
    assert not (trained(profile, tmp_path / "other", tmp_path / "records") / RECORDED).exists()


def test_maps_of_a_network_that_saw_no_slice_of_the_set(profile: Profile, runs: Path) -> None:
    maps = read_score_maps(system_maps_step(Brightness(), profile, runs, {None: trained(profile, runs)}) / "maps.zarr")
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    test, validation = (np.asarray(array[:]) for array in maps["brightness"])
    assert np.array_equal(test, validation)
    assert ((test > 0) <= (data.brain[:] > 0)).all()
    assert (test.max(axis=(1, 2)) > 0).all()


def test_maps_of_folds_are_of_the_patients_that_each_network_held_out(profile: Profile, runs: Path) -> None:
    data = open_prepared(runs / "smoke" / "prepared" / "ct-ich")
    variant = profile.variant("live", ["task=segmentation", "train.monitor=dice"])
    networks: dict[int | None, Path] = {
        fold: train_system(
            Brightness(),
            variant.model_copy(update={"train": variant.train.model_copy(update={"fold": fold})}),
            runs,
            f"price/brightness/fold-{fold}",
        )
        for fold in (0, 1)
    }
    maps = read_score_maps(system_maps_step(Brightness(), profile, runs, networks) / "maps.zarr")
    test, validation = (np.asarray(array[:]).max(axis=(1, 2)) > 0 for array in maps["brightness"])
    roles = [by_fold(data, fold).slices["split"].to_numpy() for fold in networks]
    assert np.array_equal(test, (roles[0] == "test") | (roles[1] == "test"))
    assert np.array_equal(validation, (roles[0] == "val") | (roles[1] == "val"))


def test_slices_of_a_scan_are_moved_alike_and_others_each_on_its_own(profile: Profile, runs: Path) -> None:
    data = open_prepared(runs / "smoke" / "prepared" / "rsna")
    variant, rows = profile.variant("live"), scans(data)[0]
    still = replace(data, brain=np.repeat(data.brain[rows[:1]], len(data.slices), axis=0))
    moved = read_slices(still, rows, variant, epoch=1).brain
    assert (moved == moved[:1]).all()
    assert not torch.equal(moved[0], read_slices(still, rows, variant).brain[0])
    each = read_slices(still, rows, variant, epoch=1, alike=False).brain
    assert torch.equal(each[0], moved[0])
    assert not any(torch.equal(each[0], other) for other in each[1:])


def test_bad_input_is_one_error(profile: Profile, runs: Path, tmp_path: Path) -> None:
    folder = trained(profile, runs)
    with pytest.raises(InputError, match="one of brightness"):
        load_system(replace(Brightness(), name="darkness"), folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError):
        load_system(Brightness(), folder)
    make_prepared(tmp_path / "one" / "smoke" / "prepared" / "rsna", patients=2, splits=("train", "train"))
    with pytest.raises(InputError, match="split val"):
        trained(profile, tmp_path / "one")

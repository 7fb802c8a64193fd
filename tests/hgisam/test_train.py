"""Training learns, can be stopped anywhere, and says what is wrong with its data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hgisam import train
from hgisam.checkpoint import load_checkpoint, load_tensors
from hgisam.errors import InputError
from hgisam.prepared import open_prepared
from hgisam.profile import Profile, load_profile
from tests.conftest import TINY, make_prepared


def test_learning_rate_warms_up_and_falls(tiny: Profile) -> None:
    profile = load_profile("smoke", [*TINY, "train.warmup_epochs=1", "train.epochs=3", "train.learning_rate=1.0"])
    rates = [train.learning_rate(profile, e) for e in (0, 0.5, 1, 2, 3)]
    np.testing.assert_allclose(rates, [0.01, 0.505, 1.0, 0.505, 0.01])


def test_youden_by_hand() -> None:
    assert train.youden_threshold(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.8
    assert train.youden_threshold(np.array([False, True]), np.array([0.2, 0.6])) == 0.6


def test_it_learns_and_the_checkpoint_rebuilds_itself(tmp_path: Path) -> None:
    still = [f"train.augment.{key}=0" for key in ("rotate_deg", "scale", "gain", "noise_hu", "blur_px")]
    settings = ["train.epochs=10", "train.learning_rate=2e-3", "train.patience=10"]
    profile = load_profile("smoke", [*TINY, *still, *settings])
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=48))
    checkpoint = train.fit(profile, prepared, tmp_path)
    table = pd.read_csv(tmp_path / "train.csv")
    assert table["val_auroc"].max() > 0.95
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert (predictions["row"].to_numpy() == prepared.rows("val")).all()
    hu, brain = (torch.from_numpy(a.oindex[prepared.rows("val")]) for a in (prepared.hu, prepared.brain))
    with torch.no_grad():
        scores = load_checkpoint(tmp_path).probability(checkpoint.images(hu, brain))
    np.testing.assert_allclose(scores, predictions["score"], atol=1e-5)
    assert not (tmp_path / "state.safetensors").exists()


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("where", ["_train_epoch", "_save_best", "save_training_state"])
def test_stopped_and_resumed_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    profile = load_profile("smoke", [*TINY, "train.epochs=3", "train.patience=9"])
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    straight.mkdir()
    stopped.mkdir()
    train.fit(profile, prepared, straight)
    original, calls = getattr(train, where), []

    def dies(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise _KilledError
        return original(*args)

    monkeypatch.setattr(train, where, dies)
    try:
        train.fit(profile, prepared, stopped)
    except _KilledError:
        monkeypatch.setattr(train, where, original)
        train.fit(profile, prepared, stopped)
    a, b = (load_tensors(folder / "model.safetensors") for folder in (straight, stopped))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert len(calls) == 2 or where == "_save_best"


def test_a_split_with_one_class_is_refused(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2))
    with pytest.raises(InputError, match="split val"):
        train.fit(tiny, prepared, tmp_path)


@pytest.mark.parametrize("grid", [{"size_px": 64}, {"field_mm": 240.0}])
def test_slices_of_another_grid_than_the_profile_are_refused(
    tmp_path: Path, tiny: Profile, grid: dict[str, int]
) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", **grid))
    with pytest.raises(InputError, match="--image-px 32 --field-of-view-mm 200"):
        train.fit(tiny, prepared, tmp_path)

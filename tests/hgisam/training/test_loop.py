"""Training learns, can be stopped and resumed at any moment, and refuses data that do not fit."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint, load_tensors
from hgisam.runs.files import read_json
from hgisam.training import loop
from hgisam.training.setup import TrainingSetup, set_up_training
from tests.conftest import TINY, make_prepared

SMALL_SEGMENTER = (*TINY, "segmenter.channels=[8,16,32]")


def test_it_learns_and_the_checkpoint_rebuilds_itself(tmp_path: Path) -> None:
    still = [f"train.augment.{key}=0" for key in ("rotate_deg", "scale", "gain", "noise_hu", "blur_px")]
    settings = ["train.epochs=10", "train.learning_rate=2e-3", "train.patience=10"]
    profile = load_profile("smoke", [*TINY, *still, *settings])
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=48))
    checkpoint = loop.fit(profile, prepared, tmp_path)
    table = pd.read_csv(tmp_path / "train.csv")
    assert table["val_auroc"].max() > 0.95
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert (predictions["row"].to_numpy() == prepared.rows("val")).all()
    hu, brain = (torch.from_numpy(a[prepared.rows("val")]) for a in (prepared.hu, prepared.brain))
    with torch.no_grad():
        scores = load_checkpoint(tmp_path).probability(checkpoint.preprocess(hu, brain))
    np.testing.assert_allclose(scores, predictions["score"], atol=1e-5)
    assert not (tmp_path / "state.safetensors").exists()


class _KilledError(Exception):
    pass


@pytest.mark.parametrize(
    ("owner", "where", "when"),
    [
        (loop, "_optimizer_step", 4),
        (loop, "_optimizer_step", 11),
        (TrainingSetup, "validate", 2),
        (loop, "save_checkpoint", 2),
        (loop, "save_state", 5),
    ],
)
def test_stopped_and_resumed_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, where: str, when: int
) -> None:
    settings = ["train.epochs=3", "train.patience=9", "train.batch_size=2", "model.drop_path=0.2"]
    profile = load_profile("smoke", [*TINY, *settings, "train.save_minutes=1e-9"])
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=12))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    loop.fit(profile, prepared, whole)
    original, calls = getattr(owner, where), []

    def dies(*args: object) -> object:
        calls.append(1)
        if len(calls) == when:
            raise _KilledError
        return original(*args)

    monkeypatch.setattr(owner, where, dies)
    with pytest.raises(_KilledError):
        loop.fit(profile, prepared, stopped)
    monkeypatch.setattr(owner, where, original)
    loop.fit(profile, prepared, stopped)
    a, b = (load_tensors(folder / "model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(a[key], b[key]) for key in a)
    tables = [pd.read_csv(folder / "train.csv") for folder in (whole, stopped)]
    compared = [table.drop(columns=["seconds", "images_per_s"]) for table in tables]
    pd.testing.assert_frame_equal(*compared)
    assert (stopped / "predictions.parquet").is_file()
    assert not list(stopped.glob("*state*"))


def train(settings: list[str], data: Path, folder: Path, begins: Event) -> None:
    """A training that saves its state after each step."""
    loop.LOG_EVERY = 1
    begins.set()
    loop.fit(load_profile("smoke", settings), open_prepared(data), folder)


def test_killed_at_any_moment_it_resumes_to_the_same_weights(tmp_path: Path) -> None:
    make_prepared(tmp_path / "set", patients=12)
    settings = [*TINY, "train.epochs=3", "train.patience=9", "train.batch_size=2", "train.save_minutes=1e-9"]
    processes = multiprocessing.get_context("forkserver")  # it imports torch once, and not in each of seven processes
    processes.set_forkserver_preload(["hgisam.training.loop"])

    def start(folder: Path) -> ForkServerProcess:
        begins = processes.Event()
        process = processes.Process(target=train, args=(settings, tmp_path / "set", folder, begins))
        process.start()
        assert begins.wait(60)
        return process

    def ended(process: ForkServerProcess) -> bool:
        process.join()
        return process.exitcode == 0

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert ended(start(whole))
    rng, kills = random.Random(2304), 0
    for _ in range(5):
        state = killed / "state.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        process = start(killed)
        while process.is_alive() and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.001)  # so that each start gets a little farther than the one before it
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        if ended(process):
            break
        kills += 1
    else:
        assert ended(start(killed))
    assert kills >= 3
    a, b = (load_tensors(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_state_of_another_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))

    def dies(*_: object) -> None:
        raise _KilledError

    monkeypatch.setattr(loop, "remove_state", dies)
    with pytest.raises(_KilledError):
        loop.fit(tiny, prepared, tmp_path)
    other = load_profile("smoke", [*TINY, "train.learning_rate=1e-5"])
    with pytest.raises(InputError, match="another training"):
        loop.fit(other, prepared, tmp_path)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(InputError, match="unreadable"):
        loop.fit(tiny, prepared, tmp_path)


def test_gradient_accumulation_gives_the_same_weights(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    weights = []
    for parts in (1, 3):
        folder = tmp_path / str(parts)
        folder.mkdir()
        settings = ["model.drop_path=0", f"train.accumulate={parts}"]
        loop.fit(load_profile("smoke", [*TINY, *settings]), prepared, folder)
        weights.append(load_tensors(folder / "model.safetensors"))
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=2e-4) for key in weights[0])


@pytest.mark.parametrize("task", ["binary", "subtype", "segmentation"])
def test_a_loss_that_is_not_finite_stops_and_saves_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monitor = "train.monitor=loss"
    profile = load_profile("smoke", [*SMALL_SEGMENTER, f"task={task}", monitor, "train.batch_size=2"])
    prepared = open_prepared(make_prepared(tmp_path / "set", size_px=profile.data.image_px))
    original, calls = loop.prepare_batch, []

    def breaks(*args: object) -> tuple[torch.Tensor, torch.Tensor]:
        images, target = original(*args)  # type: ignore[arg-type]
        calls.append(args[1])
        return images * (torch.nan if len(calls) == 2 else 1), target

    monkeypatch.setattr(loop, "prepare_batch", breaks)
    with pytest.raises(InputError, match=r"epoch 1, step 2: got nan.*bad_batch"):
        loop.fit(profile, prepared, tmp_path)
    saved = load_tensors(tmp_path / "bad_batch.safetensors")
    assert saved["rows"].tolist() == calls[1].rows.tolist()  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert torch.isfinite(saved["images"]).all()
    assert len(saved["target"]) == len(saved["images"]) == len(saved["rows"])
    assert not (tmp_path / "state.safetensors").exists()


def test_the_monitored_metric_selects_the_epoch_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    original = TrainingSetup.validate
    metrics = {"val_auroc": [0.6, 0.9, 0.7, 0.8, 0.5], "val_loss": [0.5, 0.6, 0.3, 0.4, 0.5]}
    for monitor, kept, epochs in (("auroc", 2, 4), ("loss", 3, 5)):
        number = iter(range(9))

        def validate(setup: TrainingSetup, number: Iterator[int] = number) -> object:
            table, _ = original(setup)
            epoch = next(number)
            return table, {name: values[epoch] for name, values in metrics.items()}

        folder = tmp_path / monitor
        folder.mkdir()
        monkeypatch.setattr(TrainingSetup, "validate", validate)
        settings = [f"train.monitor={monitor}", "train.patience=2", "train.epochs=9"]
        loop.fit(load_profile("smoke", [*TINY, *settings]), prepared, folder)
        assert read_json(folder / "model.json")["validation"]["epoch"] == kept
        assert len(pd.read_csv(folder / "train.csv")) == epochs


def test_linear_probing_from_another_checkpoint(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    loop.fit(load_profile("smoke", [*TINY, "task=subtype", "train.focal_gamma=2"]), prepared, first)
    assert load_checkpoint(first).model.num_classes == 6  # type: ignore[union-attr]
    table = pd.read_parquet(first / "predictions.parquet")
    assert {"score", "score_subdural"} <= set(table)
    order = [f"train.start_from={first}", "train.head_epochs=1", "train.patience=1", "train.epochs=2"]
    loop.fit(load_profile("smoke", [*TINY, *order]), prepared, second)
    before, after = (load_tensors(folder / "model.safetensors") for folder in (first, second))
    kept = read_json(second / "model.json")["validation"]["epoch"]
    same = {key: torch.equal(before[key], after[key]) for key in before if not key.startswith("head.")}
    assert all(same.values()) == (kept == 1)  # the backbone is frozen in the first epoch, and trains in the second
    assert after["head.fc.weight"].shape[0] == 2
    for wrong, message in (("model.channels=32", "another network"), ("windows.0.width_hu=90", "other windows")):
        with pytest.raises(InputError, match=message):
            loop.fit(load_profile("smoke", [*TINY, *order, wrong]), prepared, second)


def test_tensorboard_has_the_values_of_the_table(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prepared = open_prepared(make_prepared(tmp_path / "set"))
    loop.fit(load_profile("smoke", [*TINY, "train.tensorboard=true"]), prepared, tmp_path)
    table = pd.read_csv(tmp_path / "train.csv")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == set(table)
    values = [event.value for event in events.Scalars("val_auroc")]
    np.testing.assert_allclose(values, table["val_auroc"], rtol=1e-6)


def test_each_pass_is_another_balanced_sample(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    once, twice = (
        set_up_training(
            tiny.model_copy(update={"train": tiny.train.model_copy(update={"passes": n})}), prepared, tmp_path
        )
        for n in (1, 2)
    )
    first, second = (np.concatenate(once.epoch_batches(epoch).batches) for epoch in (0, 1))
    together = np.concatenate(twice.epoch_batches(0).batches)
    assert together.tolist() == [*first, *second]
    settings = twice.profile.train
    assert [loop._pass_number(settings, 3, step, 5) for step in range(5)] == [6, 6, 6, 7, 7]
    assert loop._pass_number(once.profile.train, 3, 4, 5) == 3


def test_a_segmenter_learns_masks(tmp_path: Path) -> None:
    still = [f"train.augment.{key}=0" for key in ("rotate_deg", "scale", "gain", "noise_hu", "blur_px", "hide")]
    profile = load_profile(
        "smoke", [*SMALL_SEGMENTER, *still, "task=segmentation", "train.monitor=dice", "train.epochs=30",
                  "train.learning_rate=5e-3", "train.patience=30"],
    )  # fmt: skip
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=24, size_px=profile.data.image_px))
    loop.fit(profile, prepared, tmp_path)
    assert pd.read_csv(tmp_path / "train.csv")["val_dice"].max() > 0.7


def test_a_split_with_one_class_is_refused(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=2))
    with pytest.raises(InputError, match="split val"):
        loop.fit(tiny, prepared, tmp_path)


@pytest.mark.parametrize("grid", [{"size_px": 64}, {"field_mm": 240.0}])
def test_slices_of_another_grid_than_the_profile_are_refused(
    tmp_path: Path, tiny: Profile, grid: dict[str, int]
) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", **grid))
    with pytest.raises(InputError, match="--image-px 32 --field-of-view-mm 200"):
        loop.fit(tiny, prepared, tmp_path)

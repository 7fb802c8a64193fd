"""Every key of a profile is used: each is changed here, and a difference or a refusal is seen."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo import OptimizedModule

from hgisam.config.profile import Profile, load_profile
from hgisam.data.batches import Batches
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.thresholds import choose_thresholds
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_tensors
from hgisam.models.networks import build_network
from hgisam.models.segmenters import build_segmenter
from hgisam.training import loop
from hgisam.training.distributed import _config
from hgisam.training.setup import TrainingSetup, set_up_training
from hgisam_book.studies import trainings
from tests.conftest import SWIN_UNETR, TINY, make_prepared, untrained

BOOK = Path(__file__).parents[1] / "book"
SHORT = (*TINY, "train.batch_size=4", "train.patience=9", "train.augment.hide_cells=8", "model.drop_path=0.1")

# another training: other weights, or another history
TRAINED = {
    "seed": 7, "task": "subtype", "windows": "[{name: wide, center_hu: 40, width_hu: 400}]", "model.channels": 32,
    "model.depths": "[2,1,2,2]", "model.heads": "[1,2,4,8]", "model.pool": "avg", "model.drop_path": 0.5,
    "train.recipe": "published", "train.head_epochs": 1, "train.epochs": 3, "train.batch_size": 8,
    "train.accumulate": 2, "train.learning_rate": 1e-2, "train.weight_decay": 0.9, "train.warmup_epochs": 1,
    "train.clip_norm": 1e-3, "train.focal_gamma": 2, "train.label_smoothing": 0.2, "train.augment.flip": 0,
    "train.augment.rotate_deg": 0, "train.augment.scale": 0, "train.augment.shift": 0, "train.augment.gain": 0.5,
    "train.augment.noise_hu": 0, "train.augment.blur_px": 0, "train.augment.hide": 0, "train.augment.hide_cells": 2,
    "train.augment.gamma": 0.5, "train.augment.low_resolution": 0.5,
    "train.augment.rim_hu": 60, "train.passes": 2,
    "train.patients": 1, "train.shuffle_labels": True, "compute.precision": "bf16-mixed",
}  # fmt: skip
REFUSED = {
    "data.image_px": 64, "data.field_of_view_mm": 240, "model.patch_px": 4, "model.window_tokens": 4,
    "model.architecture": "swin_tiny_patch4_window7_224", "model.pretrained": "nowhere.safetensors",
    "model.pretrained_sha256": "0" * 64, "train.start_from": "nowhere", "train.monitor": "dice",
}  # fmt: skip
IN_NOTEBOOKS = {  # section → what the code of a notebook says
    "phantom": ("01_problem_and_data", ["write_training_cohort(settings", "sizes.evaluation_patients", "sizes.matrix"]),
    "data": ("02_data_preparation", ["settings.data.model_dump()"]),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """A small set with masks."""
    return open_prepared(make_prepared(tmp_path_factory.mktemp("keys") / "set", patients=12))


def result(prepared: PreparedDataset, folder: Path, *overrides: str) -> tuple[Any, ...]:
    """Everything that a training leaves but its times."""
    folder.mkdir()
    loop.fit(load_profile("smoke", [*SHORT, *overrides]), prepared, folder)
    weights = {key: value.numpy().tobytes() for key, value in load_tensors(folder / "model.safetensors").items()}
    rows = [line.split(",")[:3] for line in (folder / "train.csv").read_text().splitlines()]
    return weights, rows


@pytest.fixture(scope="module")
def base(prepared: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """The training that all others differ from."""
    return result(prepared, tmp_path_factory.mktemp("base") / "run")


def test_the_same_profile_gives_the_same_training(
    prepared: PreparedDataset, base: tuple[Any, ...], tmp_path: Path
) -> None:
    assert result(prepared, tmp_path / "run") == base


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("key", TRAINED)
def test_another_training(prepared: PreparedDataset, base: tuple[Any, ...], tmp_path: Path, key: str) -> None:
    if key == "train.recipe":  # the published one sees whole slices, so nothing may be hidden
        base = result(prepared, tmp_path / "base", "train.augment.hide=0")
        assert result(prepared, tmp_path / "changed", "train.recipe=published", "train.augment.hide=0") != base
    else:
        assert result(prepared, tmp_path / "changed", f"{key}={TRAINED[key]}") != base


def test_the_rate_at_which_the_head_learns(prepared: PreparedDataset, tmp_path: Path) -> None:
    rates = (f"train.head_learning_rate={rate}" for rate in (1e-3, 1e-1))
    assert all_differ(result(prepared, tmp_path / rate, "train.head_epochs=1", rate) for rate in rates)


@pytest.mark.parametrize("key", REFUSED)
def test_a_refusal(prepared: PreparedDataset, tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError):
        loop.fit(load_profile("smoke", [*SHORT, f"{key}={REFUSED[key]}"]), prepared, tmp_path)


@pytest.mark.parametrize("section", IN_NOTEBOOKS)
def test_the_notebook_that_uses_it(section: str) -> None:
    name, said = IN_NOTEBOOKS[section]
    cells = json.loads((BOOK / f"{name}.ipynb").read_text())["cells"]
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert all(text in code for text in said)


def all_differ(values: Iterable[object]) -> bool:
    """Whether no two are equal."""
    seen = list(values)
    return len(seen) > 1 and all(a != b for a, b in combinations(seen, 2))


def profile_of(*overrides: str) -> Profile:
    """The small one, changed."""
    return load_profile("smoke", [*SHORT, *overrides])


def session_of(prepared: PreparedDataset, *overrides: str) -> TrainingSetup:
    """A training that has not begun."""
    return set_up_training(profile_of(*overrides), prepared, Path())


def test_patience(prepared: PreparedDataset, tmp_path: Path) -> None:
    still = ["train.epochs=6", "train.learning_rate=1e-9"]
    history = (result(prepared, tmp_path / str(p), *still, f"train.patience={p}")[1] for p in (1, 9))
    assert all_differ(map(len, history))


def test_how_often_the_state_is_saved(
    prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    for minutes in ("1e-9", "9"):
        monkeypatch.setattr(loop, "save_state", lambda *_, m=minutes: saved.append(m))
        result(prepared, tmp_path / minutes, f"train.save_minutes={minutes}")
    assert saved.count("1e-9") > saved.count("9") > 0


def test_what_it_runs_on(prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = "train.batch_size=8"
    assert all_differ(_config(profile_of(shared, f"compute.devices={n}").compute).nproc_per_node for n in (1, 2))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert all_differ(_config(profile_of(shared, f"compute.nodes={n}").compute).max_nodes for n in (1, 2))
    switched = [session_of(prepared, f"compute.{k}=true") for k in ("checkpointing", "compile")]
    assert [s.network.layers[0].grad_checkpointing for s in switched] == [True, False]
    assert [isinstance(s.model._forward_module, OptimizedModule) for s in switched] == [False, True]
    session = session_of(prepared, "compute.jobs=1")
    session.slices.in_memory = False
    assert session.loader(Batches(np.arange(8), 2)).num_workers == 1
    if torch.cuda.is_available():
        assert session_of(prepared, "compute.accelerator=gpu").fabric.device.type == "cuda"
    else:
        with pytest.raises(InputError, match="CUDA"):
            session_of(prepared, "compute.accelerator=gpu")


def test_how_many_trainings_at_once(prepared: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "run_all", lambda _function, _calls, jobs, _label: jobs)
    monkeypatch.setattr(trainings, "open_step_data", lambda *_: prepared)
    options = [profile_of(f"compute.trainings={n}") for n in (1, 3)]
    assert [trainings.train_all({"train": profile}, Path(), "") for profile in options] == [1, 3]
    for copies, at_once in ((2, 2), (0, 1)):  # as many as their copies of the data fit, at least one
        monkeypatch.setattr(trainings, "COPIES_BYTES", copies * prepared.hu.nbytes)
        assert trainings.train_all({"train": options[1]}, Path(), "") == at_once


def test_checkpointing_changes_no_weight(prepared: PreparedDataset, base: tuple[Any, ...], tmp_path: Path) -> None:
    assert result(prepared, tmp_path / "run", "compute.checkpointing=true") == base


def test_maps_and_thresholds(prepared: PreparedDataset) -> None:
    def options(override: str) -> object:
        return methods_of(profile_of(override).maps)["hgi_sam"].keywords  # type: ignore[attr-defined]

    assert all_differ(options(f"maps.gradient_at={at}") for at in ("scores", "weights"))
    assert all_differ(options(f"maps.stages={stages}") for stages in ("[0]", "[1]"))
    assert all_differ(set(methods_of(profile_of(f"maps.methods=[{name}]").maps)) for name in ("hgi_sam", "rollout"))
    checkpoint = untrained(build_network(profile_of()), profile_of())
    for size in (2, 4):
        seen: list[int] = []

        def method(model: object, images: torch.Tensor, target: int, seen: list[int] = seen) -> torch.Tensor:
            seen.append(len(images))
            return images[:, 0]

        predictor = SlicePredictor.of(checkpoint, profile_of(f"maps.batch_size={size}"))
        predictor.maps(torch.rand(8, 3, 32, 32), method, 32)
        assert seen == [size] * (8 // size)
    stored = SimpleNamespace(oindex=prepared.brain)  # indexed as the arrays of maps are
    maps = {"hgi_sam": (stored, stored)}
    grids = (choose_thresholds(prepared, maps, ["hgi_sam"], count=count)["hgi_sam"]["grid"] for count in (5, 9))
    assert [len(grid) for grid in grids] == [5, 9]


def test_the_fold_that_is_held_out(prepared: PreparedDataset) -> None:
    task = ["task=segmentation", "train.monitor=dice"]
    assert all_differ(session_of(prepared, *task, f"train.fold={fold}").val_rows.tolist() for fold in (0, 1))
    for overrides in (["train.fold=1"], [*task, "train.fold=9"]):
        with pytest.raises(InputError, match=r"train\.fold"):
            profile_of(*overrides)


def test_squares_of_slices(prepared: PreparedDataset) -> None:
    task = ["task=segmentation", "train.monitor=dice", "train.augment.hide=0"]
    sides = []
    for side in ("null", 16):
        session = session_of(prepared, *task, "segmenter.channels=[8,16]", f"train.crop_px={side}")
        batch = next(iter(session.loader(session.epoch_batches(0))))
        sides.append([tensor.shape[-1] for tensor in loop.prepare_batch(session, batch, 0)])
    assert sides == [[32, 32], [16, 16]]
    for wrong in (["train.crop_px=16"], *([*task, f"train.crop_px={side}"] for side in (8, 20, 64))):
        with pytest.raises(InputError, match=r"train\.crop_px"):
            profile_of(*wrong)


def test_the_trainings_of_the_studies() -> None:
    changed = profile_of("study.trainings={longer: {train.epochs: 9}}").variant("longer", ["seed=5"])
    assert (changed.train.epochs, changed.seed) == (9, 5)


def test_segmenters() -> None:
    def shapes(*overrides: str) -> list[Any]:
        settings = profile_of("data.image_px=64", *overrides).segmenter
        network = build_segmenter(settings, channels=3, classes=2)
        return [(name, tuple(value.shape)) for name, value in network.state_dict().items()]

    others = (SWIN_UNETR, ["segmenter.channels=[8,32]"], ["segmenter.architecture=basic_unet"])
    assert all_differ([shapes(), *(shapes(*other) for other in others)])
    depths, heads, size = "segmenter.depths=[1,2,2,2]", "segmenter.heads=[3,6,12,24]", "segmenter.feature_size=24"
    assert all_differ(shapes(*SWIN_UNETR, *more) for more in ([], [depths], [heads], [size]))
    norms = (
        str(build_segmenter(profile_of(f"segmenter.norm={norm}").segmenter, channels=3, classes=2))
        for norm in ("instance", "none")
    )
    assert all_differ(norms)


def test_no_key_is_left_out() -> None:
    # tests above, in test_pipeline (bootstrap), test_steps (chapters), test_train (checkpoint, start_from, tensorboard)
    other_tests = {
        "name", "train.patience", "train.save_minutes", "train.head_learning_rate", "train.checkpoint",
        "train.tensorboard", "train.fold", "train.crop_px", "compute.devices", "compute.nodes", "compute.compile",
        "compute.checkpointing", "compute.chapters",
        "compute.jobs", "compute.trainings", "compute.accelerator", "evaluate.thresholds", "evaluate.bootstrap",
    }  # fmt: skip
    sections = {"phantom.", "maps.", "segmenter.", "data.", "study."}
    keys = set(leaves(load_profile("smoke").model_dump()))
    missing = {k for k in keys - TRAINED.keys() - REFUSED.keys() - other_tests if not k.startswith(tuple(sections))}
    assert missing == set()
    assert other_tests | TRAINED.keys() | REFUSED.keys() <= keys


def leaves(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Dotted names of all keys that hold a value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield before + key

"""Reuse of trained networks from recorded runs, in place of a training with the same settings on the same slices."""

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from hgisam.config.profile import Profile
from hgisam.data.batches import SliceDataset
from hgisam.data.prepared import PreparedDataset
from hgisam.data.preprocess import Preprocessor
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint
from hgisam.models.tasks import Task
from hgisam.pipeline import train_step
from hgisam.runs.files import check_content, read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam.training.adopt import copy_training, validate_checkpoint
from hgisam.training.setup import statistics_sample, training_facts, training_split
from hgisam_book.hardware import hardware_words
from hgisam_book.recorded.excerpt import COUNTS, is_excerpt, read_excerpt, record_of

RECORDED = "recorded.json"  # in the folder of a training that was reused from a recorded run
REUSED = re.compile(r"\*\*(\d+) of (\d+) networks were reused from a recorded run")  # in `reuse_note`
SAME = ("seed", "task", "data", "windows", "model", "segmenter", "train")  # profile keys that determine the network
CHANNEL_TOLERANCE = 1e-3  # of mean and standard deviation of channels in [0, 1]
METRIC_TOLERANCE = 0.01  # of the monitored metric; float16 changes it by a tenth of that
WHOLE = "`make book TRAIN=all` makes the whole cohort and trains every network."


def train_or_reuse(run: Run, step: str, take_from: str | Path | None, data: PreparedDataset | None = None) -> Path:
    """Run `train_step`, or reuse the recorded training of the same step if settings and data are the same.

    Args:
        run: Profile of the training, and folder of all runs.
        step: Step of the run, e.g. "classifiers/binary-1".
        take_from: Folder of recorded runs, e.g. `book/recorded`; None to train.
        data: Another prepared set than that of `train_step`.

    Returns:
        Folder of the finished step.
    """
    source = recorded_training(run.profile, take_from, step) if take_from else None
    if source is None:
        return train_step(run.profile, run.runs_dir, step, data)
    inputs = {"recorded": sha256_of(source / "model.safetensors")}

    def reuse(data: PreparedDataset, folder: Path) -> bool:
        return reuse_recorded(run.profile, data, source, folder)

    return train_step(run.profile, run.runs_dir, step, data, instead=reuse, inputs=inputs)


def recorded_training(profile: Profile, take_from: str | Path, step: str) -> Path | None:
    """Folder of a recorded training with the same step and settings; None if there is none.

    Args:
        profile: Profile of the training. Of its compute settings only the precision is compared.
        take_from: Folder of recorded runs, e.g. `book/recorded`.
        step: Step of the run, e.g. "classifiers/binary-1".

    Raises:
        InputError: If the folder does not exist, or a recorded training is unreadable.
    """
    take_from = Path(take_from)
    if not take_from.is_dir():
        remedy = 'Give the folder of recorded runs, or "" to train everything.'
        raise InputError("take_from", str(take_from), "a folder", remedy)
    settings = _settings_of(profile.model_dump(mode="json"))
    folders = (about.parent for about in sorted(take_from.glob(f"*/{step}/model.json")))
    return next(
        (folder for folder in folders if _settings_of(with_defaults(_about(folder)["profile"])) == settings), None
    )


def reuse_recorded(profile: Profile, prepared: PreparedDataset, source: str | Path, folder: str | Path) -> bool:
    """Fill the folder of a training with a recorded training, if that one used the same slices.

    Pixel hashes cannot decide this, because the last bit of a phantom depends on the processor. The slices count as the
    same if each split has the same numbers of patients, slices and bleeds, the channels have the same mean and standard
    deviation, and the network reaches its recorded validation metric. Of an excerpt of the cohort, numbers and metric
    are those that were recorded for it (`hgisam_book.recorded.excerpt`), and the channels are not compared.

    Args:
        profile: Profile of the training.
        prepared: Prepared set of the training.
        source: Folder from `recorded_training`.
        folder: Gets the files of `fit`, and `RECORDED`: run, manifest of the training, monitored metric, and its value
            when recorded ("then") and now.

    Returns:
        True if the training was reused; otherwise nothing is written.

    Raises:
        InputError: If the recorded training is unreadable, as in `recorded_score` and `reaches`, or as in
            `set_up_training`.
    """
    source, folder = Path(source), Path(folder)
    trained, metric = load_checkpoint(source), f"val_{profile.train.monitor}"
    split, train_rows, _ = training_split(profile, prepared)
    then = recorded_score(source, split, trained.task, metric)
    if then is None:
        return False
    if not is_excerpt(prepared):
        fitted = Preprocessor.of(profile).fit(statistics_sample(SliceDataset(split), train_rows))
        channels = torch.cat([fitted.mean - trained.preprocess.mean, fitted.std - trained.preprocess.std])
        if channels.abs().max() > CHANNEL_TOLERANCE:
            return False
    dice_alone = metric == "val_dice"  # a mean over annotated slices: the others would be waited for in vain
    predictions, validated = validate_checkpoint(trained, profile, prepared, annotated=dice_alone)
    if not reaches(source, prepared, then, validated[metric]):
        return False
    copy_training(source, predictions, folder)
    note_reuse(source, folder, metric, then, validated[metric])
    return True


def recorded_score(source: str | Path, split: PreparedDataset, task: Task, metric: str) -> float | None:
    """Validation score of a recorded training, of the whole cohort or of its excerpt; None if its slices were others.

    Args:
        source: From `recorded_training`.
        split: The set that the training would see, in its split.
        task: Of the training.
        metric: Name of the score.

    Raises:
        InputError: If the set is an excerpt, on which the network cannot be trained, and its slices were others.
    """
    source = Path(source)
    data = training_facts(split, task)["data"]
    if not is_excerpt(split):
        about = _about(source)
        same = all(about["data"][key] == data[key] for key in COUNTS)
        return float(about["validation"].get(metric, math.nan)) if same else None
    step = read_manifest(source)["step"]
    excerpt = read_excerpt(record_of(source, step))
    check = excerpt.networks.get(step) if excerpt else None
    if check is None or check.metric != metric or any(getattr(check, key) != data[key] for key in COUNTS):
        raise InputError(f"recorded network {source}", "other slices than its own", "those of its record", WHOLE)
    return check.value


def reaches(source: str | Path, prepared: PreparedDataset, then: float, now: float) -> bool:
    """Whether a recorded network has its recorded validation score.

    Args:
        source: Its folder.
        prepared: The set with the validation patients.
        then, now: Its score when recorded and now.

    Raises:
        InputError: If it has not, and the set is an excerpt.
    """
    same = abs(then - now) <= METRIC_TOLERANCE
    if is_excerpt(prepared) and not same:
        raise InputError(f"recorded network {source}", f"a score of {now:.4f} here", f"{then:.4f} as recorded", WHOLE)
    return same


def note_reuse(source: str | Path, folder: str | Path, metric: str, then: float, now: float) -> None:
    """Write `RECORDED` to the folder of a training that was filled with the recorded one of `source`.

    Args:
        source: From `recorded_training`.
        folder: Of the training.
        metric: Name of the monitored metric, with its value when recorded and now.
        then, now: Its values.
    """
    manifest = read_manifest(source)
    run = record_of(source, manifest["step"]).name
    write_json(Path(folder) / RECORDED, {"run": run, "manifest": manifest, "metric": metric, "then": then, "now": now})


def trainings_of(run: str | Path) -> list[Path]:
    """Folders of all finished trainings of a run, including those of the studies."""
    # Chapters at work in the same run rename folders meanwhile; os.walk passes over one that is gone, Path.rglob fails.
    return sorted(Path(at) for at, _, files in os.walk(run) if {"model.safetensors", "manifest.json"} <= {*files})


def training_manifest(folder: str | Path) -> dict[str, Any]:
    """Manifest of a finished training; of one that was reused from a recorded run, that of its training there."""
    recorded = Path(folder) / RECORDED
    if not recorded.is_file():
        return read_manifest(folder)
    content: dict[str, Any] = read_json(recorded)
    check_content(_Recorded, content, str(recorded), "the record of a reused training", "Make the step again.")
    manifest: dict[str, Any] = content["manifest"]
    return manifest


def reuse_note(folders: Iterable[str | Path]) -> str:
    """Markdown note: how many finished trainings were reused from a recorded run, and their training time there.

    Args:
        folders: Folders of finished trainings.
    """
    records = [Path(folder) / RECORDED for folder in folders]
    count, reused = len(records), [read_json(path) for path in records if path.is_file()]
    if not reused:
        return f"None of {count} networks was reused from a recorded run."
    manifests = [record["manifest"] for record in reused]
    runs = ", ".join(dict.fromkeys(f"`{record['run']}`" for record in reused))
    machines = "; ".join(dict.fromkeys(hardware_words(manifest["hardware"]) for manifest in manifests))
    codes = ", ".join(dict.fromkeys(str(manifest["git_revision"])[:7] for manifest in manifests))
    metrics = " or ".join(dict.fromkeys(f"`{record['metric']}`" for record in reused))
    minutes = sum(manifest["duration_s"] for manifest in manifests) / 60
    largest = max(abs(record["then"] - record["now"]) for record in reused)
    return (
        f"**{len(reused)} of {count} networks were reused from a recorded run.** They come from {runs}, stored in "
        "float16: trained with the same settings and seeds on the same slices, by the code of revision "
        f"{codes}, in {minutes:.0f} minutes in total, on {machines}. Evaluated again on the validation "
        f"patients of this run, their {metrics} differs by at most {largest:.5f} from the recorded value. "
        "`make book TRAIN=all` trains them here."
    )


def with_defaults(profile: dict[str, Any]) -> dict[str, Any]:
    """Profile of a recorded training; keys that are newer than it have their defaults."""
    try:
        return Profile.model_validate(profile).model_dump(mode="json")
    except ValidationError:  # of a profile that is no longer valid: no training has the same settings
        return profile


class _Recorded(BaseModel):
    manifest: dict[str, Any]


class _Data(BaseModel):
    patients: dict[str, int]
    slices: dict[str, int]
    bleeding: dict[str, int]


class _About(BaseModel):
    profile: dict[str, Any]
    data: _Data
    validation: dict[str, float]


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = read_json(folder / "model.json")
    remedy = "Restore it, or record the run again."
    check_content(_About, about, str(folder / "model.json"), "the description of a recorded training", remedy)
    return about


def _settings_of(profile: dict[str, Any]) -> dict[str, Any]:
    return {**{key: profile.get(key) for key in SAME}, "precision": profile.get("compute", {}).get("precision")}

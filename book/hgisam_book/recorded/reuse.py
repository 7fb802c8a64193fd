"""Networks of the studies that a recorded run holds, reused instead of trained again where they would be the same."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from hgisam.config.profile import Profile
from hgisam.data.batches import SliceDataset
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import train_step
from hgisam.runs.files import check_content, read_json, write_json
from hgisam.runs.folders import sha256_of
from hgisam.runs.steps import hardware_words, read_manifest
from hgisam.training.adopt import copy_training, examine
from hgisam.training.setup import fit_preprocessor, training_facts, training_split

RECORDED = "recorded.json"  # in the folder of a training that was taken from a recorded run
SAME = ("seed", "task", "data", "windows", "model", "segmenter", "train")  # what makes a network, of a profile
SAME_COUNTS = ("patients", "slices", "bleeding")
CHANNEL_TOLERANCE = 1e-3  # of mean and standard deviation of channels in [0, 1]
METRIC_TOLERANCE = 0.01  # of the monitored metric; half precision moves it by a tenth of that


def train_or_reuse(profile: Profile, runs_dir: Path, step: str, take_from: Path | None) -> Path:
    """`train_step`, or the recorded training of the same step where that would come out the same.

    Args:
        profile: Of the training.
        runs_dir: Where runs live.
        step: Of the run, e.g. "classifiers/binary-1".
        take_from: Folder of recorded runs, e.g. `book/recorded`; None to train.
    """
    source = recorded_training(profile, take_from, step) if take_from else None
    if source is None:
        return train_step(profile, runs_dir, step)
    inputs = {"recorded": sha256_of(source / "model.safetensors")}

    def reuse(data: PreparedDataset, folder: Path) -> bool:
        return take_recorded(profile, data, source, folder)

    return train_step(profile, runs_dir, step, instead=reuse, inputs=inputs)


def recorded_training(profile: Profile, take_from: Path, step: str) -> Path | None:
    """Where a recorded run holds the training of a step with the same settings; None where none does.

    Args:
        profile: Of the training. On what it runs is not compared, but for the precision.
        take_from: Folder of recorded runs, e.g. `book/recorded`.
        step: Of the run, e.g. "classifiers/binary-1".

    Raises:
        InputError: If there is no such folder, or what is recorded there can't be read.
    """
    if not take_from.is_dir():
        remedy = 'Name the folder of recorded runs, or "" to train everything.'
        raise InputError("take_from", str(take_from), "a folder", remedy)
    wanted = _made_by(profile.model_dump(mode="json"))
    found = (about.parent for about in sorted(take_from.glob(f"*/{step}/model.json")))
    return next((folder for folder in found if _made_by(_about(folder)["profile"]) == wanted), None)


def take_recorded(profile: Profile, prepared: PreparedDataset, source: Path, folder: Path) -> bool:
    """Fills the folder of a training with a recorded one, if that was trained on these slices.

    Hashes of pixels would not tell, since processors differ in the last bit of a phantom. So it counts as the same if
    there are as many patients, slices and bleeds in each split, the channels have the same mean and spread, and the
    network finds the validation patients' bleeds as well as it did then.

    Args:
        profile: Of the training.
        prepared: What it would be trained on.
        source: From `recorded_training`.
        folder: Gets the files of `fit`, and `RECORDED`: run, manifest of the training, monitored metric,
            and its value then and now.

    Returns:
        Whether it was taken; otherwise nothing is written.

    Raises:
        InputError: If what is recorded can't be read; as `set_up_training` does.
    """
    about, trained = _about(source), load_checkpoint(source)
    split, train_rows, _ = training_split(profile, prepared)
    counts = training_facts(split, trained.task)["data"]
    if any(about["data"][key] != counts[key] for key in SAME_COUNTS):
        return False
    fitted = fit_preprocessor(profile, SliceDataset(split), train_rows)
    channels = torch.cat([fitted.mean - trained.preprocess.mean, fitted.std - trained.preprocess.std])
    if channels.abs().max() > CHANNEL_TOLERANCE:
        return False
    predictions, validated = examine(trained, profile, prepared)
    metric = f"val_{profile.train.monitor}"
    then, now = about["validation"].get(metric, math.nan), validated[metric]
    if not abs(then - now) <= METRIC_TOLERANCE:
        return False
    copy_training(source, predictions, folder)
    manifest = read_manifest(source)
    run = source.parents[manifest["step"].count("/")].name
    write_json(folder / RECORDED, {"run": run, "manifest": manifest, "metric": metric, "then": then, "now": now})
    return True


def trainings_of(run: Path) -> list[Path]:
    """Folders of the finished trainings of a run, its own and those of the studies."""
    return sorted(path.parent for path in run.rglob("model.safetensors") if (path.parent / "manifest.json").is_file())


def trained_or_taken(folders: Iterable[Path]) -> str:
    """Says, in Markdown, which of some finished trainings were taken from a recorded run, and what they cost there."""
    count = len(folders := list(folders))
    taken = [read_json(folder / RECORDED) for folder in folders if (folder / RECORDED).is_file()]
    if not taken:
        return f"None of {count} networks was taken from a recorded run."
    made = [record["manifest"] for record in taken]
    runs = ", ".join(dict.fromkeys(f"`{record['run']}`" for record in taken))
    machines = "; ".join(dict.fromkeys(hardware_words(manifest["hardware"]) for manifest in made))
    codes = ", ".join(dict.fromkeys(str(manifest["git_revision"])[:7] for manifest in made))
    metrics = " or ".join(dict.fromkeys(f"`{record['metric']}`" for record in taken))
    minutes = sum(manifest["duration_s"] for manifest in made) / 60
    apart = max(abs(record["then"] - record["now"]) for record in taken)
    return (
        f"**{len(taken)} of {count} networks were not trained here.** They are those of the recorded run {runs}, kept "
        "in half precision: trained with the same settings and seeds on the same slices, by the code of revision "
        f"{codes}, in {minutes:.0f} minutes when added up, on {machines}. Measured again on the validation "
        f"patients of this run, none is further than {apart:.5f} from the {metrics} that it had then. "
        "`make book TAKE_FROM=` trains them here."
    )


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
    check_content(_About, about, str(folder / "model.json"), "what a recorded training says of itself", remedy)
    return about


def _made_by(profile: dict[str, Any]) -> dict[str, Any]:
    return {**{key: profile.get(key) for key in SAME}, "precision": profile.get("compute", {}).get("precision")}

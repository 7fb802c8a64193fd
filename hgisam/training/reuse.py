"""Load or train: networks that were trained before, taken instead of trained again.

One is asked for by `train.checkpoint`, whatever it was trained on. Others a recorded run may hold: two cores need an
hour for the networks of the studies, so what would be the same is taken from there, and all else is trained.
"""

import math
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.models.checkpoint import Checkpoint, load_checkpoint
from hgisam.models.shipped import checkpoint_folder
from hgisam.runs.files import check_content, read_json, write_json
from hgisam.runs.steps import hardware_words, read_manifest
from hgisam.training.setup import TrainingSetup, set_up_training
from hgisam.training.validation import validate

RECORDED = "recorded.json"  # in the folder of a training that was taken from a recorded run
SAME = ("seed", "task", "data", "windows", "model", "segmenter", "train")  # what makes a network, of a profile
SAME_COUNTS = ("patients", "slices", "bleeding")
CHANNEL_TOLERANCE = 1e-3  # of mean and standard deviation of channels in [0, 1]
METRIC_TOLERANCE = 0.01  # of the monitored metric; half precision moves it by a tenth of that


def adopt(profile: Profile, prepared: PreparedDataset, folder: Path) -> Checkpoint:
    """Takes `train.checkpoint` instead of training, and measures it on the validation patients.

    Args:
        profile: As for `hgisam.training.loop.fit`; must ask for the network that the checkpoint is.
        prepared: As for `fit`.
        folder: Gets the files of `fit`; `train.csv` is the checkpoint's own.

    Raises:
        InputError: If there is no such checkpoint, or it is of another network, grid or task.
    """
    source = checkpoint_folder(str(profile.train.checkpoint))
    trained = load_checkpoint(source)
    for section in ("task", "model", "windows", "data"):
        got, wanted = (getattr(p, section) for p in (trained.profile, profile))
        if got != wanted:
            remedy = "Use the profile that it was trained with, or train.checkpoint=null to train."
            raise InputError(
                f"train.checkpoint {profile.train.checkpoint}", f"another {section}", "the profile's", remedy
            )
    predictions, _ = _examine(trained, set_up_training(profile, prepared, folder))
    _copy(source, predictions, folder)
    return trained


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
    session = set_up_training(profile, prepared, folder)
    same = all(about["data"][key] == session.facts["data"][key] for key in SAME_COUNTS)
    channels = torch.cat([session.mean - trained.mean, session.std - trained.std])
    if not same or channels.abs().max() > CHANNEL_TOLERANCE:
        return False
    predictions, validated = _examine(trained, session)
    metric = f"val_{profile.train.monitor}"
    then, now = about["validation"].get(metric, math.nan), validated[metric]
    if not abs(then - now) <= METRIC_TOLERANCE:
        return False
    _copy(source, predictions, folder)
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


def _examine(trained: Checkpoint, session: TrainingSetup) -> tuple[pd.DataFrame, dict[str, float]]:
    """What a trained network says of the validation patients, as `validate` tells it."""
    session.network.load_state_dict(trained.model.state_dict())
    return validate(replace(session, profile=trained.profile, mean=trained.mean, std=trained.std))


def _copy(source: Path, predictions: pd.DataFrame, folder: Path) -> None:
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    for name in ("model.safetensors", "model.json", "train.csv"):
        shutil.copyfile(source / name, folder / name)

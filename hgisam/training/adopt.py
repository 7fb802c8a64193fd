"""A trained network taken instead of training: `train.checkpoint`, examined on the validation patients."""

import shutil
from pathlib import Path

import pandas as pd

from hgisam.config.profile import Profile
from hgisam.data.batches import Batches, SliceDataset, batch_loader
from hgisam.data.prepared import PreparedDataset
from hgisam.errors import InputError
from hgisam.models.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint
from hgisam.models.device import autocast, choose_device
from hgisam.training.setup import training_split
from hgisam.training.validation import validate, validation_table


def adopt(profile: Profile, prepared: PreparedDataset, folder: Path) -> Checkpoint:
    """Takes `train.checkpoint` instead of training, and measures it on the validation patients.

    Args:
        profile: As for `fit`; must ask for the network that the checkpoint is.
        prepared: As for `fit`.
        folder: Gets the files of `fit`; `train.csv` is the checkpoint's own.

    Raises:
        InputError: If there is no such checkpoint, or it is of another network, grid or task.
    """
    source = checkpoint_folder(str(profile.train.checkpoint))
    trained = load_checkpoint(source)
    for section in ("task", "model", "windows", "data"):
        got, expected = (getattr(p, section) for p in (trained.profile, profile))
        if got != expected:
            remedy = "Use the profile that it was trained with, or train.checkpoint=null to train."
            raise InputError(
                f"train.checkpoint {profile.train.checkpoint}", f"another {section}", "the profile's", remedy
            )
    predictions, _ = examine(trained, profile, prepared)
    copy_training(source, predictions, folder)
    return trained


def examine(trained: Checkpoint, profile: Profile, prepared: PreparedDataset) -> tuple[pd.DataFrame, dict[str, float]]:
    """Table and metrics of a trained network on the validation patients of another training.

    Args:
        trained: The network.
        profile: Of the other training.
        prepared: What that would be trained on.
    """
    prepared, _, val_rows = training_split(profile, prepared)
    device, settings = choose_device(profile.compute.accelerator), trained.profile.train
    slices = SliceDataset(prepared, with_mask=profile.task == "segmentation")
    batches = batch_loader(slices, Batches(val_rows, 2 * settings.batch_size), workers=profile.compute.jobs)
    _, outputs = validate(
        trained.model.to(device), batches, trained.task, trained.preprocess, settings,
        autocast=lambda: autocast(profile.compute.precision, device),
    )  # fmt: skip
    return validation_table(prepared, val_rows, outputs, trained.task)


def copy_training(source: Path, predictions: pd.DataFrame, folder: Path) -> None:
    """Fills the folder of a training with a finished one, its predictions those of `examine`."""
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    for name in ("model.safetensors", "model.json", "train.csv"):
        shutil.copyfile(source / name, folder / name)

"""A trained network in place of a training: `train.checkpoint`, validated on the patients of this run."""

import shutil
from pathlib import Path

import pandas as pd

from hgisam.config.profile import Profile
from hgisam.data.batches import Batches, SliceDataset, batch_loader
from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.errors import InputError
from hgisam.models.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint
from hgisam.models.device import autocast, choose_device
from hgisam.training.setup import training_split
from hgisam.training.validation import TableAndMetrics, validate, validation_table


def adopt(profile: Profile, prepared: PreparedDataset, folder: str | Path) -> Checkpoint:
    """Adopt `train.checkpoint`: validate it, and fill the folder as `fit` does, with its own `train.csv`.

    Raises:
        InputError: If there is no such checkpoint, or its task, model, windows or grid differ.
    """
    source = checkpoint_folder(name := str(profile.train.checkpoint))
    trained = load_checkpoint(source)
    for section in ("task", "model", "windows", "data"):
        if getattr(trained.profile, section) != getattr(profile, section):
            remedy = "Use the profile of its training, or train.checkpoint=null to train."
            raise InputError(f"train.checkpoint {name}", f"another {section}", "the profile's", remedy)
    predictions, _ = validate_checkpoint(trained, profile, prepared)
    copy_training(source, predictions, folder)
    return trained


def validate_checkpoint(
    trained: Checkpoint, profile: Profile, prepared: PreparedDataset, *, annotated: bool = False
) -> TableAndMetrics:
    """Predictions and metrics on the slices (with a mask) of the validation patients that a profile chooses."""
    prepared, _, val_rows = training_split(profile, prepared)
    val_rows = val_rows[require_masks(prepared)[val_rows].any(axis=(1, 2))] if annotated else val_rows
    device, settings = choose_device(profile.compute.accelerator), trained.profile.train
    slices = SliceDataset(prepared, with_mask=profile.task == "segmentation")
    batches = batch_loader(slices, Batches(val_rows, 2 * settings.batch_size), workers=profile.compute.jobs)
    _, outputs = validate(
        trained.model.to(device), batches, trained.task, trained.preprocess, settings,
        autocast=lambda: autocast(profile.compute.precision, device),
    )  # fmt: skip
    return validation_table(prepared, val_rows, outputs, trained.task)


def copy_training(source: str | Path, predictions: pd.DataFrame, folder: str | Path) -> None:
    """Fill the folder of a training with a finished one and its predictions from `validate_checkpoint`."""
    predictions.to_parquet(Path(folder) / "predictions.parquet", index=False)
    for name in ("model.safetensors", "model.json", "train.csv"):
        shutil.copyfile(Path(source) / name, Path(folder) / name)

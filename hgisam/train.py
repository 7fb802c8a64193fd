"""Training a classifier on slice labels: one loop, on Lightning Fabric."""

import csv
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor
from tqdm import tqdm

from hgisam.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
    save_training_state,
)
from hgisam.compute import make_fabric
from hgisam.data import SliceDataset, augment, balanced_rows, batch_loader, channel_statistics, to_images
from hgisam.errors import InputError
from hgisam.models import BLEEDING, CLASSES, build_classifier
from hgisam.prepared import PreparedDataset
from hgisam.profile import Profile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """What every epoch of a training uses."""

    profile: Profile
    prepared: PreparedDataset
    slices: SliceDataset
    train_rows: npt.NDArray[np.int64]
    val_rows: npt.NDArray[np.int64]
    mean: Tensor
    std: Tensor
    fabric: lightning.Fabric
    model: Any
    optimizer: Any


def fit(profile: Profile, prepared: PreparedDataset, folder: Path) -> Checkpoint:
    """Trains until the validation AUROC stops rising or the epochs are over, and keeps the best epoch.

    After every epoch the whole state is saved in `folder`; a call that finds one there goes on from it, and ends with
    the weights that an undisturbed call would have ended with.

    Args:
        profile: Sections `model`, `train`, `windows`, `compute` and the seed.
        prepared: Needs slices with and without bleeding in both splits.
        folder: Gets `train.csv`, `predictions.parquet`, `model.safetensors` and `model.json`.

    Raises:
        InputError: If the set has another grid than the profile, a split lacks a class, or the loss is no longer a
            number.
    """
    _check_grid(profile, prepared)
    slices = SliceDataset(prepared)
    train_rows, val_rows = (_rows_of_both_classes(prepared, split) for split in ("train", "val"))
    fabric = make_fabric(profile.compute)
    torch.manual_seed(profile.seed)
    classifier = build_classifier(profile)
    model, optimizer = fabric.setup(classifier, _optimizer(classifier, profile))
    mean, std = channel_statistics(slices, train_rows, profile)
    run = _Run(profile, prepared, slices, train_rows, val_rows, mean, std, fabric, model, optimizer)
    history: list[dict[str, float]] = load_training_state(folder, classifier, optimizer) or []
    with tqdm(total=profile.train.epochs, initial=len(history), desc="training", unit="epoch") as bar:
        while len(history) < profile.train.epochs and _epochs_since_best(history) < profile.train.patience:
            started = time.perf_counter()
            trained = _train_epoch(run, len(history))
            validated, scores = _validate(run)
            history.append({**trained, **validated, "seconds": time.perf_counter() - started})
            if _epochs_since_best(history) == 0:
                _save_best(folder, run, classifier, history[-1], scores)
            save_training_state(folder, classifier, optimizer, history)
            _write_csv(folder / "train.csv", history)
            bar.set_postfix(loss=f"{trained['train_loss']:.3f}", auroc=f"{validated['val_auroc']:.3f}")
            bar.update()
    (folder / "state.safetensors").unlink(missing_ok=True)
    return load_checkpoint(folder, fabric.device)


def _train_epoch(run: _Run, epoch: int) -> dict[str, float]:
    """One pass over a balanced draw; its randomness depends on the seed and the epoch alone, so it can be replayed."""
    settings, seed = run.profile.train, run.profile.seed
    bleeds = run.slices.any.numpy()[run.train_rows] == 1
    rows = balanced_rows(run.train_rows, bleeds, np.random.default_rng((seed, epoch)))
    torch.manual_seed(seed + 1 + epoch)
    generator = torch.Generator(run.fabric.device).manual_seed(seed + 1 + epoch)
    loader = batch_loader(run.slices, rows, settings.batch_size)
    started, losses, rate = time.perf_counter(), [], 0.0
    run.model.train()
    for step, (hu, brain, target, _) in enumerate(tqdm(loader, desc=f"epoch {epoch + 1}", unit="batch", leave=False)):
        rate = learning_rate(run.profile, epoch + step / len(loader))
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        hu, brain, target = run.fabric.to_device((hu, brain, target))
        changed = augment(hu, brain, settings.augment, generator)
        logits = run.model(to_images(*changed, run.profile, run.mean, run.std))
        loss = F.cross_entropy(logits.float(), target, label_smoothing=settings.label_smoothing)
        run.optimizer.zero_grad()
        run.fabric.backward(loss)
        run.fabric.clip_gradients(run.model, run.optimizer, max_norm=1.0)
        run.optimizer.step()
        losses.append(loss.detach())
    mean_loss = float(torch.stack(losses).mean())
    if not math.isfinite(mean_loss):
        raise InputError("training loss", mean_loss, "a finite number", "Lower train.learning_rate.")
    return {
        "epoch": epoch + 1,
        "learning_rate": rate,
        "train_loss": mean_loss,
        "images_per_s": len(rows) / (time.perf_counter() - started),
    }


@torch.no_grad()
def _validate(run: _Run) -> tuple[dict[str, float], npt.NDArray[np.float32]]:
    """Loss and AUROC on the validation split, and the probability of bleeding [n] of its slices."""
    run.model.eval()
    logits = []
    for hu, brain, _, _ in batch_loader(run.slices, run.val_rows, 2 * run.profile.train.batch_size):
        hu, brain = run.fabric.to_device((hu, brain))
        images = to_images(hu, brain, run.profile, run.mean, run.std)
        logits.append(run.model(images).float().cpu())
    joined = torch.cat(logits)
    target = run.slices.any[run.val_rows]
    scores: npt.NDArray[np.float32] = joined.softmax(dim=1)[:, BLEEDING].numpy()
    loss = float(F.cross_entropy(joined, target))
    return {"val_loss": loss, "val_auroc": float(roc_auc_score(target.numpy(), scores))}, scores


def learning_rate(profile: Profile, epoch: float) -> float:
    """Linear warm-up, then a cosine down to one percent, at a fractional epoch."""
    settings = profile.train
    if epoch < settings.warmup_epochs:
        return settings.learning_rate * (0.01 + 0.99 * epoch / settings.warmup_epochs)
    done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1e-9)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def youden_threshold(bleeds: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> float:
    """The score at which sensitivity + specificity is largest.

    Source: Youden, Index for rating diagnostic tests, Cancer 1950.
    """
    false_positive, true_positive, thresholds = roc_curve(bleeds, scores)
    return float(np.clip(thresholds[np.argmax(true_positive - false_positive)], 0, 1))


def _optimizer(model: torch.nn.Module, profile: Profile) -> torch.optim.AdamW:
    """AdamW; norms, biases and relative position tables do not decay."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "relative_position" not in name]
    chosen = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [{"params": decayed, "weight_decay": profile.train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=profile.train.learning_rate)


def _epochs_since_best(history: list[dict[str, float]]) -> int:
    if not history:
        return 0
    scores = [row["val_auroc"] for row in history]
    return len(scores) - 1 - int(np.argmax(scores))


def _check_grid(profile: Profile, prepared: PreparedDataset) -> None:
    size_px, pixel_mm = prepared.meta["size_px"], prepared.slices["pixel_mm"].iloc[0]
    if size_px != profile.data.image_px or abs(pixel_mm / profile.pixel_mm - 1) > 0.01:
        wanted = profile.data
        raise InputError(
            f"slices of {prepared.path}",
            f"{size_px} px of {pixel_mm:.3g} mm",
            f"{wanted.image_px} px of {profile.pixel_mm:.3g} mm, as the profile says",
            f"Prepare them with --image-px {wanted.image_px} --field-of-view-mm {wanted.field_of_view_mm:g}.",
        )


def _rows_of_both_classes(prepared: PreparedDataset, split: str) -> npt.NDArray[np.int64]:
    rows = prepared.rows(split)
    if set(prepared.slices["any"].iloc[rows]) != {0, 1}:
        remedy = "Prepare more patients, or another data.validation_fraction."
        raise InputError(
            f"split {split} of {prepared.path.name}", "one class at most", "slices of both classes", remedy
        )
    return rows


def _save_best(
    folder: Path, run: _Run, classifier: Any, row: dict[str, float], scores: npt.NDArray[np.float32]
) -> None:
    table = run.prepared.slices.iloc[run.val_rows][["patient", "study", "any"]]
    threshold = youden_threshold(table["any"].to_numpy() == 1, scores)
    extra = {"classes": CLASSES, "validation": row}
    save_checkpoint(folder, Checkpoint(classifier, run.profile, run.mean, run.std, threshold), extra)
    predictions = pd.DataFrame({"row": run.val_rows, **table.reset_index(drop=True), "score": scores})
    predictions.to_parquet(folder / "predictions.parquet", index=False)


def _write_csv(path: Path, history: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)

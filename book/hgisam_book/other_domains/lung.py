"""The engine of the package on another organ: prepared sets of the lung phantom, a Swin trained on labels, its scores.

Training, maps, thresholds and metrics are those for heads. What is fitted to the organ is the input: the preprocessing
of the core shifts the median of the brain to 34 HU and treats all above 100 HU as bone. Ground glass, 250 HU denser
than lung, would be bone. So the prepared sets store lung HU on a compressed scale, see `to_scale`, on which healthy
lung is where brain is and vessels stay below 100; the windows of the training "lung" are lung windows on this scale.
"""

from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from data_prep.parallel import run_all
from data_prep.prepared_set import write_prepared
from hgisam.config.profile import Profile, Window
from hgisam.data.labels import LABELS, MASK_VALUES
from hgisam.data.prepared import PreparedDataset, open_prepared, require_masks
from hgisam.evaluation.metrics import hit
from hgisam.evaluation.score_maps import THRESHOLD_BASELINES, ScoreMaps, read_score_maps, score_maps_at
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import load_checkpoint
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.other_domains.lung_phantom import FIELD_MM, LUNG_HU, LungSlices, lung_slices
from hgisam_book.recorded.reuse import train_or_reuse
from hgisam_book.studies.method_comparison import Rows, dice_by_slice

TRAINING = "lung"  # in `study.trainings`
STEP = "other_domains/lung"
HU_PER_UNIT = 16.0  # of the compressed scale: vessels of 50 HU are at 90, below the 100 of bone
LUNG_VALUE = 34.0  # of healthy lung on it, where the preprocessing has brain
CHUNK = 50  # slices that a process generates at once
Values = TypeVar("Values", float, npt.NDArray[np.floating])


def to_scale(hu: Values) -> Values:
    """HU of a chest → the compressed scale of the prepared sets."""
    return (hu - LUNG_HU) / HU_PER_UNIT + LUNG_VALUE


def to_hu(value: Values) -> Values:
    """The inverse of `to_scale`."""
    return (value - LUNG_VALUE) * HU_PER_UNIT + LUNG_HU


def window_in_hu(window: Window) -> tuple[float, float]:
    """Level and width in HU of a window on the compressed scale."""
    return to_hu(window.center_hu), window.width_hu * HU_PER_UNIT


def lung_sets_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Prepared sets of the lung phantom: `train` with labels and no masks, `test` with masks in folds.

    Args:
        profile: Of the training "lung", from `Profile.variant`.
        runs_dir: Folder of all runs.

    Returns:
        `runs/<profile>/other_domains/lung/data`.
    """
    counts = {"train": profile.phantom.training_patients, "test": profile.phantom.evaluation_patients}

    def work(folder: Path) -> None:
        for number, (name, count) in enumerate(counts.items()):
            starts = range(0, count, CHUNK)
            tasks = [
                (min(CHUNK, count - start), profile.data.image_px, 2 * profile.seed + number, start) for start in starts
            ]
            parts = run_all(lung_slices, tasks, profile.compute.jobs, f"lung phantom, {name}")
            made = LungSlices(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
            write_lungs(folder / name, made, profile, with_mask=name == "test")

    return Run(profile, runs_dir).make(
        f"{STEP}/data",
        work,
        code=["hgisam_book.other_domains.lung_phantom", "data_prep.prepared_set"],
        sections=("phantom", "data"),
        inputs={},
    )


def write_lungs(out: str | Path, made: LungSlices, profile: Profile, *, with_mask: bool) -> Path:
    """Write slices of the lung phantom as a prepared set, on the compressed scale.

    Args:
        out: Folder to create.
        made: The slices, one per patient.
        profile: Gives the share of validation patients and the folds.
        with_mask: False leaves out the masks of the patches.
    """
    count, size_px, pixel_mm = len(made.label), made.hu.shape[1], FIELD_MM / made.hu.shape[1]
    number = np.arange(count)
    validation = number >= round(count * (1 - profile.data.validation_fraction))
    geometry = {"native_rows": size_px, "native_cols": size_px, "native_step_row": 1.0, "native_step_col": 1.0}
    slices = pd.DataFrame(
        {
            **{name: np.where(made.label == 1, -1, 0) for name in LABELS},
            "any": made.label,
            "patient": [f"lung-{at}" for at in number],
            "study": [f"lung-{at}" for at in number],
            "split": np.where(validation, "val", "train"),
            "fold": number // 2 % profile.data.folds,  # as many with ground glass as without in each
            **dict.fromkeys(("slice_index", "source_index", "position_mm", "native_row0", "native_col0"), 0),
            **geometry,
            "slice_mm": 5.0,
            "pixel_mm": pixel_mm,
        }
    )
    mask = made.patch.astype(np.uint8) * np.uint8(MASK_VALUES["unspecified"]) if with_mask else None
    hu = to_scale(made.hu.astype(np.float32)).round().astype(np.int16)
    info = {"name": "lung phantom", "source": "phantom", "licence": "CC0-1.0", "skipped": []}
    return write_prepared(
        out,
        slices=slices,
        blocks=[(hu, made.lung.astype(np.uint8), mask)],
        size_px=size_px,
        with_mask=with_mask,
        info=info,
    )


def lung_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> Path:
    """Train a Swin on labels of the lung phantom, and measure its maps as those of heads.

    Args:
        profile: Of the run; the training is "lung" of its `study.trainings`.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse the training if it is the same; None to train.

    Returns:
        `runs/<profile>/other_domains/lung/maps`: `maps.zarr` and `scores.parquet` of the set with masks, as
        `hgisam.inference.extraction` writes them, and `measured.parquet`, from `measure_lungs`.
    """
    variant = profile.variant(TRAINING, ["train.checkpoint=null"])
    run = Run(variant, runs_dir)
    sets = lung_sets_step(variant, runs_dir)
    training, data = (open_prepared(sets / name) for name in ("train", "test"))
    trained = train_or_reuse(run, f"{STEP}/network", take_from, training)

    def work(folder: Path) -> None:
        predictor = SlicePredictor.of(load_checkpoint(trained), variant)
        extract_maps(predictor, methods_of(variant.maps), data, folder)
        found = read_score_maps(folder / "maps.zarr")
        measured = measure_lungs(data, found, count=variant.evaluate.thresholds)
        measured.to_parquet(folder / "measured.parquet", index=False)

    return run.make(
        f"{STEP}/maps",
        work,
        code=["hgisam.inference.extraction", "hgisam_book.studies.method_comparison"],
        sections=("maps", "evaluate", "compute"),
        inputs={
            "lung/test": data.fingerprint,
            "network": read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )


def measure_lungs(data: PreparedDataset, score_maps: ScoreMaps, *, count: int) -> pd.DataFrame:
    """Dice and pointing game of each slice with ground glass, for the maps and the threshold baselines.

    Args:
        data: With masks and folds.
        score_maps: From `read_score_maps`.
        count: Candidate thresholds of maps; that of a fold is chosen on the slices of the next one.

    Returns:
        One row per method and slice: method, fold, patient, row, dice, threshold, pointing (1 if the maximum within the
        lungs is in a patch; of tied maxima, the share that is).
    """
    table = dice_by_slice(data, score_maps, [*score_maps, *THRESHOLD_BASELINES], count=count)
    parts = [
        part.assign(pointing=_pointing(data, score_maps, str(method), part["row"].to_numpy()))
        for method, part in table.groupby("method", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def _pointing(data: PreparedDataset, score_maps: ScoreMaps, method: str, rows: Rows) -> list[float]:
    """Pointing game of one method on some slices."""
    lung, truth = data.brain[rows], require_masks(data)[rows] > 0
    values = score_maps_at(method, score_maps, data, rows, lung)
    pixel_mm = data.slices["pixel_mm"].to_numpy()[rows]
    return [hit(*of, within_mm=0.0) for of in zip(values, truth, lung > 0, pixel_mm, strict=True)]

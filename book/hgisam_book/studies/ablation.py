"""Ablation of HGI-SAM: one choice changed at a time, on the same slices, compared with the default method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import nn

from hgisam.adapters.protocol import find_adapter
from hgisam.config.profile import Maps as MapSettings
from hgisam.config.profile import Profile, Window
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.masks import threshold_grid
from hgisam.evaluation.metrics import compare, holm
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam.maps import grad_cam, swin_sam
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.files import write_json
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.studies.map_variants import (
    ERODED_MM,
    ZOOMS,
    at_threshold,
    average,
    composed,
    eroded_brain,
    multi_scale,
    of_predicted_class,
    times_blurred_window,
    whole_slice,
    with_flip,
    within_brain,
)
from hgisam_book.studies.method_comparison import (
    Restriction,
    Rows,
    bleeding_rows,
    dice_at_best_threshold,
    dice_curves,
    estimates,
)
from hgisam_book.studies.released_code import released_swin_sam, released_token_grid
from hgisam_book.studies.sanity import sanity_checks

DEFAULT = "HGI-SAM"
SLICES_PER_SPLIT = 100  # at most
# windows of the released test code, (center, width) in HU; other channels keep theirs
TEST_WINDOWS = {"brain": (40.0, 120.0), "subdural": (80.0, 340.0), "bone": (700.0, 3200.0)}
CONSTANTS = {DEFAULT: 0.05, "Swin-SAM": 0.07, "GradCAM": 0.8}  # thresholds in the released code
# defects of the released code that no map of a trained network can show, by number, with the reason
NOT_RUN = {
    1: "softmax before the loss: needs another training (train.recipe=published), not run here",
    4: "split by slice: needs another training, not run here; prepared sets are split by patient and can't be mixed",
    5: "labels joined by position in a folder listing: concerns data loading; a wrong join is an error here",
    6: "mask // 255: concerns data loading; a prepared mask has subtypes, not gray values",
    9: "evaluated only on slices that are known to bleed: all rows here are; chapter 6 has the others and the gate",
    10: "epochs and networks that ignore the settings: needs another training, not run here",
    12: "hooks that are never removed, hard-coded device, pickles: change no number",
}


@dataclass(frozen=True)
class Variant:
    """One change of the method.

    Attributes:
        group: Kind of the change.
        changes: Description of it.
        method: Of its map.
        against: Name of the variant that it changes, and is compared with.
        restrict: See `dice_curves`.
        test_windows: The input of the classifier has `TEST_WINDOWS` instead of those of its training.
        constant: The threshold, where it is a part of the method.
    """

    group: str
    changes: str
    method: Method
    against: str = DEFAULT
    restrict: Restriction | None = None
    test_windows: bool = False
    constant: float | None = None


def variants_of(model: nn.Module, settings: MapSettings, *, pixel_mm: float) -> dict[str, Variant]:
    """All variants by name, the default method first.

    Args:
        model: The classifier.
        settings: Of the default method.
        pixel_mm: Pixel pitch of the slices in mm.
    """
    stages = tuple(range(len(find_adapter(model).stages)))
    default = methods_of(settings, ["hgi_sam"])["hgi_sam"]
    used = ", ".join(str(stage + 1) for stage in settings.stages)
    words, augmented = f"gradient at {settings.gradient_at}, stages {used}", "test-time augmentation"
    return {
        DEFAULT: Variant("reference", words, default),
        "Swin-SAM": Variant("reference", "no head weights, all stages", swin_sam),
        "GradCAM": Variant("reference", "first norm of the last block", grad_cam),
        **_of_the_map(settings, stages),
        "no brain mask": Variant("brain", "predictions outside the brain count too", default, restrict=whole_slice),
        "scaled within the brain": Variant(
            "brain", "last min-max scaling within the brain", default, restrict=within_brain
        ),
        "times blurred window": Variant(
            "brain", "times the blurred brain CT window, as early released code had it", times_blurred_window(default)
        ),
        "horizontal flip": Variant(augmented, "mean with the map of the mirrored slice", with_flip(default)),
        "three scales": Variant(
            augmented, "mean over the slice at " + ", ".join(map(str, ZOOMS)), multi_scale(default)
        ),
        **_released(settings, default, stages, pixel_mm),
    }


def _of_the_map(settings: MapSettings, stages: Sequence[int]) -> dict[str, Variant]:
    """Gradient, head weights, stages, and fusion of blocks and stages."""
    used, at = tuple(settings.stages), settings.gradient_at
    other = "scores" if at == "weights" else "weights"

    def variant(group: str, changes: str, **options: Any) -> Variant:
        return Variant(group, changes, composed(**{"gradient_at": at, "stages": used} | options))

    sets = {f"stage {s + 1} alone": (s,) for s in stages} | {"stages 1, 2": (0, 1), "stages 1, 2, 3": (0, 1, 2)}
    sets |= {"all stages": tuple(stages)}
    return {
        f"gradient at {other}": variant("gradient", "gradient with respect to the other tensor", gradient_at=other),
        "no head weights": Variant("head weights", "Swin-SAM on the same stages", partial(swin_sam, stages=used)),
        **{name: variant("stages", "another set of stages", stages=of) for name, of in sets.items() if of != used},
        "pairs averaged": variant("fusion", "mean of W-MSA and SW-MSA, not their product", blocks=average),
        "stages averaged": variant("fusion", "mean of the stages, not their product", join=average),
        "both averaged": variant("fusion", "no product at all", blocks=average, join=average),
        "stages not scaled": variant("fusion", "no min-max scaling of each stage before their fusion", scale="none"),
    }


def _released(settings: MapSettings, default: Method, stages: Sequence[int], pixel_mm: float) -> dict[str, Variant]:
    """Defects of the released code, one by one, as far as they affect maps and their evaluation."""
    used, at, all_of = tuple(settings.stages), settings.gradient_at, tuple(stages)
    batch = composed(gradient_at=at, stages=used, scale="batch")
    rolled = composed(gradient_at=at, stages=all_of, grid=released_token_grid)
    whole = DEFAULT if used == all_of else "all stages"
    group = "released code"
    eroded = partial(eroded_brain, pixel_mm=pixel_mm)
    methods: dict[str, Method] = {DEFAULT: default, "Swin-SAM": swin_sam, "GradCAM": grad_cam}
    constants = {
        f"8: threshold {value:g}, {name}": Variant(
            group, "a constant, not chosen", at_threshold(methods[name], value), against=name, constant=value
        )
        for name, value in CONSTANTS.items()
    }
    return {
        "2: min-max over the batch": Variant(group, "min-max scaling of all slices of a batch together", batch),
        "3: roll, HGI-SAM": Variant(group, "every odd block rolled, all stages", rolled, against=whole),
        "3: roll, Swin-SAM": Variant(group, "every odd block rolled", released_swin_sam, against="Swin-SAM"),
        "7: other CT windows": Variant(group, "other CT windows than in training", default, test_windows=True),
        **constants,
        "11: predicted class": Variant(
            group, "GradCAM of the predicted class", of_predicted_class(grad_cam), against="GradCAM"
        ),
        "13: brain eroded": Variant(group, f"brain eroded by {ERODED_MM:g} mm", default, restrict=eroded),
    }


def ablate(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    variants: Mapping[str, Variant],
    rows: Mapping[str, Rows],
    grid: npt.NDArray[np.float64],
    *,
    bootstrap: int,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Dice of each variant on the test slices, at the threshold that is best on the validation slices.

    Args:
        predictor: Of the classifier.
        prepared: With masks.
        variants: Name → variant, including those that they are compared with.
        rows: "val" and "test" → bleeding slices.
        grid: [T] ascending thresholds.
        bootstrap, seed: As in `estimates`.

    Returns:
        One row per variant: group, changes, against, threshold, validation_dice; mean, low, high of the Dice of the
        test slices; difference, difference_low, difference_high over patients from the variant that it changes, p_value
        of the paired Wilcoxon signed-rank test and p_holm, after Holm correction over all rows. And name → see
        `best_threshold`, with the curve of the validation Dice.
    """
    curves = _curves(predictor, prepared, variants, np.concatenate([rows["val"], rows["test"]]), grid)
    count = len(rows["val"])
    patient = prepared.slices["patient"].iloc[rows["test"]].reset_index(drop=True)
    chosen, dice = {}, {}
    for name, curve in curves.items():
        chosen[name], dice[name] = dice_at_best_threshold(curve[:count], curve[count:], grid)
    by_patient = {name: pd.Series(values).groupby(patient).mean() for name, values in dice.items()}
    found: list[dict[str, Any]] = []
    for name, variant in variants.items():
        row: dict[str, Any] = {key: getattr(variant, key) for key in ("group", "changes", "against")}
        row |= {key: chosen[name][key] for key in ("threshold", "validation_dice")}
        row |= {"threshold": variant.constant} if variant.constant is not None else {}
        options: Any = {"count": bootstrap, "seed": seed}
        test = compare(by_patient[name], by_patient[variant.against], **options)
        low, high = test["ci95"] or (None, None)
        row |= {"difference": test["difference"], "difference_low": low, "difference_high": high}
        found.append({"name": name, **row, "p_value": test["p_value"], "value": dice[name]})
    corrected = np.array(holm([row["p_value"] for row in found]), dtype=float)  # None becomes NaN
    table = estimates(found, prepared, rows["test"], bootstrap=bootstrap, seed=seed)
    table = table.set_index("name").assign(p_holm=corrected)
    return table.astype({"p_value": float}), chosen


def _curves(
    predictor: SlicePredictor,
    prepared: PreparedDataset,
    variants: Mapping[str, Variant],
    rows: Rows,
    grid: npt.NDArray[np.float64],
) -> dict[str, Any]:
    """Dice of every variant on every slice at every threshold."""
    checkpoint = predictor.checkpoint
    windows = [
        Window(name=w.name, center_hu=center, width_hu=width)
        for w in checkpoint.profile.windows
        for center, width in [TEST_WINDOWS.get(w.name, (w.center_hu, w.width_hu))]
    ]
    other = replace(checkpoint, preprocess=replace(checkpoint.preprocess, windows=windows))
    curves: dict[str, Any] = {}
    for reader, is_other in ((predictor, False), (predictor.with_checkpoint(other), True)):
        mine = {name: variant for name, variant in variants.items() if variant.test_windows == is_other}
        methods = {name: variant.method for name, variant in mine.items()}
        restrict = {name: variant.restrict for name, variant in mine.items() if variant.restrict is not None}
        if mine:
            curves |= dice_curves(reader, prepared, methods, rows, grid, restrict=restrict)
    return curves


def ablations_step(profile: Profile, runs_dir: str | Path) -> Path:
    """Ablations and sanity checks of the maps on bleeding slices of `ct-ich`; returns `runs/<profile>/ablations`.

    The check with shuffled labels needs `classifiers/shuffled`, a training on such labels; it is left out before that.
    """
    run = Run(profile, runs_dir)
    data = open_step_data(run, "ct-ich")
    trained = run.require("train")
    shuffled = run.folder("classifiers/shuffled")
    inputs = {"train": trained} | ({"shuffled": shuffled} if (shuffled / "manifest.json").is_file() else {})

    def work(folder: Path) -> None:
        networks = {name: load_checkpoint(path) for name, path in inputs.items()}
        rows = {
            split: bleeding_rows(data, split, most=SLICES_PER_SPLIT, seed=profile.seed) for split in ("val", "test")
        }
        predictor, grid = SlicePredictor.of(networks["train"], profile), threshold_grid(profile.evaluate.thresholds)
        options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}
        variants = variants_of(predictor.model, profile.maps, pixel_mm=profile.pixel_mm)
        table, chosen = ablate(predictor, data, variants, rows, grid, **options)
        table.to_parquet(folder / "ablations.parquet")
        write_json(folder / "thresholds.json", {"dataset": data.fingerprint, "split": "val", "methods": chosen})
        methods, shuffled = methods_of(profile.maps), networks.get("shuffled")
        checks = sanity_checks(predictor, data, methods, rows["test"], grid=grid, shuffled=shuffled, **options)
        checks.to_parquet(folder / "sanity.parquet", index=False)

    hashes = {name: read_manifest(path)["outputs"]["model.safetensors"] for name, path in inputs.items()}
    return run.make(
        "ablations",
        work,
        code=["hgisam_book.studies.ablation"],
        sections=("maps", "evaluate", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **hashes},
    )

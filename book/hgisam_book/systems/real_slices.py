"""The ladder of labels on real slices: networks of a recorded run, trained on phantoms, tested on real heads."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hgisam.data.prepared import PreparedDataset, require_masks
from hgisam.evaluation.masks import HU_GRID, dice_curve, smoothed_hu
from hgisam.evaluation.score_maps import MASK_GRID, MASK_RULES, read_score_maps
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint
from hgisam_book.studies.coarse_labels import COARSE
from hgisam_book.studies.prices import HALF, LABEL_OF, MASK_FREE
from hgisam_book.studies.real_heads import MAP_GRID, METHODS, best_dice, bleeding_rows, densities_at
from hgisam_book.studies.refinement import SELF_TRAINED
from hgisam_book.systems.box_detector import BoxDetector
from hgisam_book.systems.exam_mil import ExamMil
from hgisam_book.systems.extraction import extract_system
from hgisam_book.systems.focal_segnet import FocalSegNet
from hgisam_book.systems.pseudo_masks import pseudo_masks
from hgisam_book.systems.sequence_cam import SequenceCam
from hgisam_book.systems.sequence_steps import NO_NETWORK, RULE, UNET, WITH_LSTM
from hgisam_book.systems.slice_mil import SliceMil
from hgisam_book.systems.training import Maps, Rows, System
from hgisam_scans.blood_density import with_density

MAPPED = {name: method for name, method in METHODS.items() if name in LABEL_OF}
AS_THEY_ARE = set(MASK_FREE) - set(COARSE)  # masks, or probabilities that are cut at one half


def measure_ladder(
    recorded: str | Path, prepared: PreparedDataset, density_threshold_hu: float, sam: str | Path | None = None
) -> dict[str, dict[str, float]]:
    """Dice of the methods of the ladder on the bleeding slices of a set of real heads.

    Args:
        recorded: Folder of a recorded run; methods whose network it lacks are left out.
        prepared: A set with masks, on the grid of the run.
        density_threshold_hu: From `hgisam_book.studies.real_heads.choose_density_threshold`.
        sam: Folder of Segment Anything, from `make sam`; None to do without.

    Returns:
        Method → "dice", a mean over slices and networks, and "networks", how many: one for each fold that the network
        held out. Score maps are cut at the one threshold with the largest mean Dice on these very slices, as in
        `measure_bleeding`; methods that need no threshold have none here.

    Raises:
        InputError: If the set has no masks, or no slice with blood.
    """
    rows, found = bleeding_rows(prepared), defaultdict[str, list[float]](list)
    truth, brain = require_masks(prepared)[rows] > 0, prepared.brain[rows]
    for method, maps in _score_maps(Path(recorded), prepared, rows, density_threshold_hu, sam):
        if method in AS_THEY_ARE:
            dice = float(dice_curve((maps >= MASK_GRID[0]).astype(np.float32), truth, brain, MASK_GRID).mean())
        else:
            dice = best_dice(maps, truth, brain, HU_GRID if method == "smooth_hu_threshold" else MAP_GRID)["dice"]
        found[method].append(dice)
    return {method: {"dice": float(np.mean(dice)), "networks": len(dice)} for method, dice in found.items()}


def _score_maps(
    recorded: Path, prepared: PreparedDataset, rows: Rows, density_threshold_hu: float, sam: str | Path | None
) -> Iterator[tuple[str, Maps]]:
    """Methods of the ladder and their maps [n, row, col], one per network."""
    hu, brain, pixel_mm = prepared.hu[rows], prepared.brain[rows], float(prepared.slices["pixel_mm"].iloc[0])
    density = densities_at(prepared, rows)

    def fused(maps: Maps) -> Maps:
        return with_density(maps, density, density_threshold_hu)

    def probabilities(trained: Path) -> Maps:
        unet = SlicePredictor(load_checkpoint(trained))
        return unet.maps(unet.images(hu, brain), probability_of_bleeding, hu.shape[1]).astype(np.float32)

    yield "smooth_hu_threshold", smoothed_hu(hu, brain, pixel_mm)
    yield NO_NETWORK, pseudo_masks(hu, brain, (brain > 0).astype(np.float32), pixel_mm).astype(np.float32)
    yield "density_alone", fused(np.ones(hu.shape, np.float32))
    refined: Maps | None = None
    for prefix, classifier in (("", "train"), ("exam_", "price/exam/swin")):
        if not (recorded / classifier).is_dir():
            continue
        found, _ = SlicePredictor(load_checkpoint(recorded / classifier)).predict(hu, brain, MAPPED)
        maps = {name: values.astype(np.float32) for name, values in found.items()}
        maps |= {name: rule(maps[source], brain) for name, (source, rule) in MASK_RULES.items()}
        maps["hgi_sam_density"] = fused(maps["hgi_sam"])
        yield from ((prefix + name, values) for name, values in maps.items() if prefix + name in LABEL_OF)
        if not prefix and (recorded / SELF_TRAINED).is_dir():
            predicted = probabilities(recorded / SELF_TRAINED)
            refined = _mean(maps["hgi_sam_density"], predicted)
            yield HALF, predicted
            yield "hgi_sam_refined", refined
    for label in COARSE:
        for trained in sorted(recorded.glob(f"price/{label}/fold-*")):
            yield label, probabilities(trained)
    budgets = sorted(recorded.glob("baselines/label_budget/*-scans/fold-*"))
    for trained in budgets:
        scans, predicted = trained.parent.name.removesuffix("-scans"), probabilities(trained)
        yield f"unet_{scans}", predicted
        if refined is not None:
            yield f"mixed_{scans}", _mean(predicted, refined)
    for fold in sorted({trained.name for trained in budgets}):
        yield "unet_all", probabilities(recorded / "baselines" / "unet" / fold)
    yield from _of_systems(recorded, prepared, rows, sam)
    for trained in recorded.glob(f"price/{UNET}/network"):
        yield UNET, probabilities(trained)


def _of_systems(
    recorded: Path, prepared: PreparedDataset, rows: Rows, sam: str | Path | None
) -> Iterator[tuple[str, Maps]]:
    """The same of the other systems, which see whole scans."""
    hu, brain, pixel_mm = prepared.hu[rows], prepared.brain[rows], float(prepared.slices["pixel_mm"].iloc[0])
    tested = replace(prepared, slices=prepared.slices.assign(split="test"))  # what Segment Anything is asked about
    profile = load_checkpoint(recorded / "train").profile
    systems: list[System] = [
        WITH_LSTM, SequenceCam(with_lstm=False), SliceMil(), ExamMil(), BoxDetector(sam), FocalSegNet()
    ]  # fmt: skip
    for system in systems:
        for trained in sorted(path.parent for path in recorded.glob(f"price/{system.name}/*/model.safetensors")):
            with tempfile.TemporaryDirectory() as folder:
                extract_system(system, profile, tested, {None: trained}, folder)
                for name, (maps, _) in read_score_maps(Path(folder) / "maps.zarr").items():
                    found: Any = np.asarray(maps.oindex[rows], np.float32)
                    yield name, found
                    if name == WITH_LSTM.name:
                        yield RULE, pseudo_masks(hu, brain, found, pixel_mm).astype(np.float32)


def _mean(a: Maps, b: Maps) -> Maps:
    return ((a + b) / 2).astype(np.float32)

"""What segments a scan: one network or an ensemble, with its method, threshold and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel

from hgisam.data.labels import SUBTYPES
from hgisam.errors import InputError, check_choice
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import PROBABILITY, Method, SlicePredictor, probability_of_bleeding
from hgisam.maps import METHODS
from hgisam.models.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint, shipped_checkpoints
from hgisam.runs.files import check_content, read_json
from hgisam.runs.folders import sha256_of
from hgisam_scans.blood_density import FUSED, density_of_scan, with_density
from hgisam_scans.volume_interval import Interval

CALIBRATION, THRESHOLDS = "calibration.json", "thresholds.json"  # beside the weights
PLAIN, BEST_WEAK, REFINED = "hgi_sam", "hgi_sam_density", "hgi_sam_refined"
MAP_BEHIND = {**FUSED, REFINED: PLAIN}  # method that needs the density of blood → its map
HALF = 0.5
BATCH = 8  # slices at once: more need more memory and save no time on a processor
HU = npt.NDArray[np.int16]
Brain = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


class Calibration(BaseModel):
    """What `hgisam calibrate` measured for one network.

    Attributes:
        weights: SHA-256 of the weights that it belongs to.
        cohort: The patients with known truth, in words.
        reference: Measurement → its range in data like those of the training, see `hgisam_scans.trust`.
        intervals: Method → interval of the volume.
        density_threshold_hu: Density threshold of blood, for the fusion of a map with density; None if none was chosen,
            as in calibrations of earlier versions.
    """

    weights: str
    cohort: str
    reference: dict[str, tuple[float, float]]
    intervals: dict[str, Interval]
    density_threshold_hu: float | None = None


@dataclass(frozen=True)
class Network:
    """A trained network that turns prepared slices into score maps.

    Attributes:
        name: Of the shipped checkpoint, or of the folder.
        folder: Of the checkpoint.
        predictor: Reads slices with it.
        method: A map method or the fusion of one with density (`FUSED`) for a classifier, "probability" for a
            segmenter, or "hgi_sam_refined".
        threshold: Of the score maps.
        calibration: None if there is none for these weights.
        density_threshold_hu: For the methods with density.
        self_trained: For the refined method: the segmenter that was trained on pseudo-masks.
    """

    name: str
    folder: Path
    predictor: SlicePredictor
    method: str
    threshold: float
    calibration: Calibration | None
    density_threshold_hu: float | None = None
    self_trained: SlicePredictor | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return sha256_of(self.folder / "model.safetensors")

    @property
    def detection_threshold(self) -> float:
        """Probability of bleeding from which a slice is predicted to bleed."""
        return self.predictor.checkpoint.detection_threshold

    @property
    def grid(self) -> tuple[int, float]:
        """Pixels per side of its slices, and their field of view in mm."""
        data = self.predictor.checkpoint.profile.data
        return data.image_px, data.field_of_view_mm

    @property
    def knows_subtypes(self) -> bool:
        """True if its classes are the subtypes of hemorrhage."""
        return self.predictor.checkpoint.profile.task == "subtype"

    def map_method(self, name: str | None = None) -> Method:
        """A map method by its name, with the options of the training; by default the one behind its own method."""
        name = name or MAP_BEHIND.get(self.method, self.method)
        if name == PROBABILITY:
            return probability_of_bleeding
        return methods_of(self.predictor.checkpoint.profile.maps, [name])[name]

    def predict(self, hu: HU, brain: Brain, rows: pd.DataFrame) -> tuple[Maps, Scores]:
        """Score maps [slice, px, px] in [0, 1], and probability of bleeding [slice], of the slices of one scan."""
        found, scores = self.predictor.predict(hu, brain, {"map": self.map_method()})
        maps = found["map"].astype(np.float32)
        if self.density_threshold_hu is not None:
            maps = with_density(maps, density_of_scan(hu, brain, rows), self.density_threshold_hu)
        if self.self_trained:
            images = self.self_trained.images(hu, brain)
            predicted = self.self_trained.maps(images, probability_of_bleeding, hu.shape[1])
            maps = ((maps + predicted) / 2).astype(np.float32)
        return maps, scores

    def subtypes(self, hu: HU, brain: Brain) -> Maps:
        """Evidence [subtype, slice, px, px] for each of `SUBTYPES`: its probability in the slice times its map."""
        images, method = self.predictor.images(hu, brain), self.map_method()
        classes = self.predictor.task.classes
        logits = torch.cat([self.predictor.logits(part) for part in torch.split(images, self.predictor.batch_size)])
        probability = logits.float().sigmoid().cpu().numpy()
        evidence = []
        for name in SUBTYPES:
            target = classes.index(name)

            def of_subtype(model: Any, batch: Any, _: int, target: int = target) -> Any:
                return method(model, batch, target)

            maps = self.predictor.maps(images, of_subtype, hu.shape[1]).astype(np.float32)
            evidence.append(maps * probability[:, target, None, None])
        return np.stack(evidence)


def load_networks(
    checkpoint: str | Path | Sequence[str | Path], *, method: str | None = None, threshold: float | None = None
) -> list[Network]:
    """Load one network, or the members of an ensemble, whose score maps and scores are averaged.

    Args:
        checkpoint: Name of a shipped checkpoint, folder of a training or a run; or several of them.
        method: Of a classifier: a map method; its fusion with density, "hgi_sam_density" or "hgi_sam_averaged_density",
            if a density threshold was calibrated; "hgi_sam_refined" for a run that has refined maps. By default
            "hgi_sam_density" where it is calibrated, for all members of an ensemble alike, else "hgi_sam". A segmenter
            has only "probability".
        threshold: Of the score maps; by default the one in `thresholds.json` of the checkpoint or its run.

    Raises:
        InputError: If there is no such checkpoint, method or threshold, or the members read different fields of view.
    """
    names = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
    if not names:
        raise InputError("--checkpoint", "none", f"one of {', '.join(shipped_checkpoints())}, or a folder", "Name one.")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 < threshold <= 1):
        raise InputError("--threshold", threshold, "more than 0, at most 1", "Score maps are in [0, 1].")
    folders = [checkpoint_folder(name) for name in names]
    loaded = [(load_checkpoint(folder), _calibration(folder)) for folder in folders]
    classifiers = [calibration for checkpoint, calibration in loaded if not segments(checkpoint)]
    fused = all(calibration is not None and BEST_WEAK in calibration.intervals for calibration in classifiers)
    weak = method or (BEST_WEAK if fused else PLAIN)
    networks = [
        _network(name, folder, *parts, PROBABILITY if method is None and segments(parts[0]) else weak, threshold)
        for name, folder, parts in zip(names, folders, loaded, strict=True)
    ]
    if len(fields := {network.grid[1] for network in networks}) > 1:
        got = " and ".join(f"{mm:g} mm" for mm in sorted(fields))
        raise InputError("--checkpoint", f"networks with fields of view of {got}", "one", "Leave out the others.")
    return networks


def segments(checkpoint: Checkpoint) -> bool:
    """True for a supervised segmenter, False for a classifier."""
    return checkpoint.profile.task == "segmentation"


def _network(
    name: str | Path, folder: Path, checkpoint: Checkpoint, calibration: Calibration | None, method: str,
    threshold: float | None,
) -> Network:  # fmt: skip
    choices = [PROBABILITY] if segments(checkpoint) else [*METHODS, *FUSED, REFINED]
    check_choice(f"method of {name}", method, choices)
    threshold_hu, self_trained = None, None
    if method in FUSED:
        threshold_hu = calibration.density_threshold_hu if calibration else None
        if threshold_hu is None:
            got, expected = "no density threshold", f"one in {CALIBRATION} beside its weights"
            raise InputError(f"method {method} of {name}", got, expected, "Choose one: hgisam calibrate.")
    elif method == REFINED:
        threshold_hu, self_trained = _refinement(folder.parent)
    shown = str(name) if str(name) in shipped_checkpoints() else f"{folder.parent.name}/{folder.name}"
    return Network(
        shown, folder, _predictor(checkpoint), method, threshold or _threshold(folder, method), calibration,
        threshold_hu, self_trained,
    )  # fmt: skip


def _predictor(checkpoint: Checkpoint) -> SlicePredictor:
    predictor = SlicePredictor.of(checkpoint, checkpoint.profile)
    predictor.batch_size = min(predictor.batch_size, BATCH)
    return predictor


def _refinement(run: Path) -> tuple[float, SlicePredictor]:
    """The density threshold in HU of a run's refined maps, and its self-trained segmenter."""
    if not (run / "refined" / "self_trained" / "model.json").is_file():
        expected = "a run with refined maps"
        raise InputError("--method hgi_sam_refined", f"no refined maps in {run}", expected, "Run 12_refined_maps.")
    density = read_json(run / "refined" / "pseudo" / "density.json")
    return float(density["threshold_hu"]), _predictor(load_checkpoint(run / "refined" / "self_trained"))


def _threshold(folder: Path, method: str) -> float:
    """The threshold of a method: beside the weights, else of the run; one half for a segmenter that has none."""
    places = [folder, folder.parent / "results", folder.parent / "evaluate"]
    for path in (place / THRESHOLDS for place in places):
        if path.is_file():
            chosen = read_json(path)
            try:
                return float(chosen["methods"][method]["threshold"])
            except (KeyError, TypeError, ValueError):
                continue
    if method == PROBABILITY:
        return HALF
    remedy = "Give --threshold, or choose one on patients with masks: hgisam calibrate."
    raise InputError(f"threshold of {method}", f"none beside {folder.name}", f"one in {THRESHOLDS}", remedy)


def _calibration(folder: Path) -> Calibration | None:
    """The calibration beside the weights; None if there is none, or if it belongs to other weights."""
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    remedy = "Run hgisam calibrate again."
    found = check_content(Calibration, read_json(path), str(path), "a calibration of hgisam calibrate", remedy)
    return found if found.weights == sha256_of(folder / "model.safetensors") else None


def interval_of(networks: Sequence[Network]) -> Interval | None:
    """The calibrated interval of one network and its method, at its own threshold; an ensemble has none."""
    if len(networks) != 1 or networks[0].calibration is None:
        return None
    return networks[0].calibration.intervals.get(networks[0].method)

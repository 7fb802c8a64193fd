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
from hgisam.inference.predictor import Method, SlicePredictor
from hgisam.maps import METHODS
from hgisam.models.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint, shipped_checkpoints
from hgisam.runs.files import check_content, read_json
from hgisam.runs.folders import sha256_of
from hgisam_book.studies.cross_validation import probability_of_bleeding
from hgisam_scans.volume_interval import Interval

CALIBRATION, THRESHOLDS = "calibration.json", "thresholds.json"  # beside the weights
PROBABILITY, REFINED = "probability", "hgi_sam_refined"
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
    """

    weights: str
    cohort: str
    reference: dict[str, tuple[float, float]]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class Network:
    """A trained network that turns prepared slices into score maps.

    Attributes:
        name: Of the shipped checkpoint, or of the folder.
        folder: Of the checkpoint.
        predictor: Reads slices with it.
        method: A map method for a classifier, "probability" for a segmenter, or "hgi_sam_refined".
        threshold: Of the score maps.
        calibration: None if there is none for these weights.
        refinement: For the refined method: the self-trained segmenter, and the density threshold in HU.
    """

    name: str
    folder: Path
    predictor: SlicePredictor
    method: str
    threshold: float
    calibration: Calibration | None
    refinement: tuple[SlicePredictor, float] | None = None

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

    def predict(self, hu: HU, brain: Brain, rows: pd.DataFrame) -> tuple[Maps, Scores]:
        """Score maps [slice, px, px] in [0, 1], and probability of bleeding [slice], of the slices of one scan."""
        method = _method(self.predictor, "hgi_sam" if self.refinement else self.method)
        found, scores = self.predictor.predict(hu, brain, {"map": method})
        maps = found["map"].astype(np.float32)
        if self.refinement:
            from hgisam_book.studies.blood_density import density_map, with_density  # takes most of a second

            segmenter, threshold_hu = self.refinement
            predicted = segmenter.maps(segmenter.images(hu, brain), probability_of_bleeding, hu.shape[1])
            pixel_mm, slice_mm = rows[["pixel_mm", "slice_mm"]].median()
            fused = with_density(maps, density_map(hu, brain, float(pixel_mm), float(slice_mm)), threshold_hu)
            maps = ((fused + predicted) / 2).astype(np.float32)
        return maps, scores

    def subtypes(self, hu: HU, brain: Brain) -> Maps:
        """Evidence [subtype, slice, px, px] for each of `SUBTYPES`: its probability in the slice times its map."""
        images, method = self.predictor.images(hu, brain), _method(self.predictor, self.method)
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


def _method(predictor: SlicePredictor, name: str) -> Method:
    return (
        probability_of_bleeding if name == PROBABILITY else methods_of(predictor.checkpoint.profile.maps, [name])[name]
    )


def load_networks(
    checkpoint: str | Path | Sequence[str | Path], *, method: str | None = None, threshold: float | None = None
) -> list[Network]:
    """Load one network, or the members of an ensemble, whose score maps and scores are averaged.

    Args:
        checkpoint: Name of a shipped checkpoint, folder of a training or a run; or several of them.
        method: Map method of a classifier, "hgi_sam" by default; "hgi_sam_refined" for a run that has refined maps; a
            segmenter has only "probability".
        threshold: Of the score maps; by default the one in `thresholds.json` of the checkpoint or its run.

    Raises:
        InputError: If there is no such checkpoint, method or threshold, or the members read different fields of view.
    """
    names = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
    if not names:
        raise InputError("--checkpoint", "none", f"one of {', '.join(shipped_checkpoints())}, or a folder", "Name one.")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 < threshold <= 1):
        raise InputError("--threshold", threshold, "more than 0, at most 1", "Score maps are in [0, 1].")
    networks = [_load(name, method, threshold) for name in names]
    if len(fields := {network.grid[1] for network in networks}) > 1:
        got = " and ".join(f"{mm:g} mm" for mm in sorted(fields))
        raise InputError("--checkpoint", f"networks with fields of view of {got}", "one", "Leave out the others.")
    return networks


def _load(name: str | Path, method: str | None, threshold: float | None) -> Network:
    folder = checkpoint_folder(name)
    checkpoint = load_checkpoint(folder)
    predictor = _predictor(checkpoint)
    segments = checkpoint.profile.task == "segmentation"
    method = method or (PROBABILITY if segments else "hgi_sam")
    check_choice(f"method of {name}", method, [PROBABILITY] if segments else [*METHODS, REFINED])
    refinement = _refinement(folder.parent) if method == REFINED else None
    threshold = threshold or _threshold(folder, method)
    shown = str(name) if str(name) in shipped_checkpoints() else f"{folder.parent.name}/{folder.name}"
    return Network(shown, folder, predictor, method, threshold, _calibration(folder), refinement)


def _predictor(checkpoint: Checkpoint) -> SlicePredictor:
    predictor = SlicePredictor.of(checkpoint, checkpoint.profile)
    predictor.batch_size = min(predictor.batch_size, BATCH)
    return predictor


def _refinement(run: Path) -> tuple[SlicePredictor, float]:
    if not (run / "refined" / "self_trained" / "model.json").is_file():
        expected = "a run with refined maps"
        raise InputError("--method hgi_sam_refined", f"no refined maps in {run}", expected, "Run 12_refined_maps.")
    checkpoint = load_checkpoint(run / "refined" / "self_trained")
    density = read_json(run / "refined" / "pseudo" / "density.json")
    return _predictor(checkpoint), float(density["threshold_hu"])


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

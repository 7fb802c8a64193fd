"""Calibration of a network on patients whose masks are known: thresholds, the interval of the volume, usual scans.

By default the patients are phantoms: their truth is exact, and says nothing about patients. One command makes both
files beside the weights again after a change of network or phantom: `hgisam calibrate phantom-binary`.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from data_prep.phantom.cohort import Layout, write_phantom
from data_prep.study import READERS, Settings, prepare_volume
from data_prep.volume import Study, UnusableError, Volume
from hgisam.errors import InputError, check_choice
from hgisam.evaluation.masks import best_threshold, dice_curve, threshold_grid
from hgisam.inference.predictor import PROBABILITY, HalfMaps
from hgisam.maps import METHODS
from hgisam.models.checkpoint import checkpoint_folder, load_checkpoint
from hgisam.runs.files import write_json
from hgisam_scans.blood_density import FUSED, best_density_threshold, dense_areas, density_of_scan, with_density
from hgisam_scans.networks import CALIBRATION, HALF, THRESHOLDS, Calibration, Network, load_networks, segments
from hgisam_scans.segmentation import on_native_grid, volume_ml
from hgisam_scans.trust import measure_scan, reference_ranges
from hgisam_scans.volume_interval import calibrate_interval

MASKED = ("ct-ich", "bhsd", "instance")  # readers of data sets with masks
CALIBRATED = ("hgi_sam", "swin_sam", "grad_cam", "hgi_sam_density")  # methods of a classifier
THRESHOLD_SHARE = 3  # one patient in three chooses the thresholds, the others calibrate the interval
TRAINING_PATIENTS = 24  # phantoms of the training cohort, whose scanners differ, for the usual scans
GRID = threshold_grid(100)  # candidate thresholds of maps


def calibrate(
    checkpoint: str | Path, *, data: str | Path | None = None, kind: str = "ct-ich", patients: int = 90,
    seed: int = 77, methods: Sequence[str] = CALIBRATED, jobs: int = 1,
) -> Path:  # fmt: skip
    """Choose thresholds and calibrate the interval of the volume of one network; writes two files beside its weights.

    `thresholds.json` has the format of an evaluated run, so that `hgisam evaluate` reads it too. `calibration.json` is
    a `Calibration`. One patient in three chooses the thresholds, the others calibrate the interval. The density
    threshold of blood is chosen from slice labels: of the same third, and of phantoms like those of the training.

    Args:
        checkpoint: As in `load_networks`.
        data: Raw data set with masks, never of patients the network was trained on; None for phantoms.
        kind: Reader of that data set: "ct-ich", "bhsd" or "instance".
        patients: Phantoms of the evaluation cohort to generate without `data`.
        seed: Of the phantoms; a profile trains on those of its own seed.
        methods: Of a classifier: map methods, and fusions of one with density; a segmenter has only "probability".
        jobs: Processes that generate phantoms.

    Returns:
        Path of `calibration.json`.

    Raises:
        InputError: If a method or the reader is unknown, too few patients bleed, or all slices do.
    """
    folder = checkpoint_folder(checkpoint)
    if segments(load_checkpoint(folder)):
        methods = [PROBABILITY]
    for name in methods:
        check_choice("--method", name, [PROBABILITY, *METHODS, *FUSED])
    (network,) = load_networks(folder, method=FUSED.get(methods[0], methods[0]), threshold=HALF)
    if data is not None:
        if kind not in MASKED:
            raise InputError("--kind", kind, " or ".join(MASKED), "Give a data set with masks.")
        READERS[kind].tables(data)  # says what is missing
        return _write(network, methods, _Cohort(kind, Path(data)), None, f"scans of {kind}")
    with tempfile.TemporaryDirectory(prefix="calibrate-") as scratch:
        cohorts: dict[Layout, int] = {"ct-ich": patients, "rsna": TRAINING_PATIENTS}
        for layout, count in cohorts.items():
            write_phantom(Path(scratch, layout), layout=layout, patients=count, seed=seed, jobs=jobs)
        own, training = (_Cohort(layout, Path(scratch, layout)) for layout in cohorts)
        return _write(network, methods, own, training, f"phantoms, seed {seed}")


class _Cohort(NamedTuple):
    """A raw data set: its reader and its folder."""

    kind: str
    raw: Path


class _Scan:
    """A scan of a cohort on the grid of the network.

    Args:
        volume: The scan as read.
        network: Its method does not matter.
    """

    def __init__(self, volume: Volume, network: Network) -> None:
        px, field_mm = network.grid
        arrays, self.rows, statistics = prepare_volume(volume, Settings("folder", px, field_mm, labelled=False))
        self.volume, self.network = volume, network
        self.hu, self.brain = arrays["hu"], arrays["brain"]
        self.truth = arrays["mask"] > 0 if "mask" in arrays else np.zeros(self.hu.shape, bool)
        self.measured = measure_scan(volume, self.hu, self.brain, self.rows, statistics)

    @cached_property
    def density(self) -> npt.NDArray[np.float32]:
        """Density of blood, see `hgisam_scans.blood_density`."""
        return density_of_scan(self.hu, self.brain, self.rows)

    def maps(self, methods: Iterable[str]) -> tuple[dict[str, HalfMaps], npt.NDArray[np.float64]]:
        """The maps behind some methods by their names, each made once, and the scores."""
        behind = {name: self.network.map_method(name) for name in {FUSED.get(method, method) for method in methods}}
        return self.network.predictor.predict(self.hu, self.brain, behind)


class _BleedingSlices(NamedTuple):
    """The slices of a patient that choose thresholds: arrays [n, px, px]."""

    maps: dict[str, HalfMaps]
    density: npt.NDArray[np.float32] | None
    truth: npt.NDArray[np.bool_]
    brain: npt.NDArray[np.uint8]


def _write(
    network: Network, methods: Sequence[str], cohort: _Cohort, training: _Cohort | None, source: str
) -> Path:  # fmt: skip
    """Measure a cohort with masks, and perhaps scans like those of the training, and write both files.

    Every scan is read, prepared and mapped once.

    Args:
        network: Its method does not matter.
        methods: To calibrate.
        cohort: With masks.
        training: With slice labels, for the reference and the density threshold.
        source: The cohort in words.
    """
    with_fusion = bool({*methods} & {*FUSED})
    usual, areas, labels = list[dict[str, float]](), list[npt.NDArray[np.int64]](), list[npt.NDArray[np.int64]]()
    bleeding, choosing = list[_BleedingSlices](), 0

    def note(scan: _Scan) -> None:
        usual.append(scan.measured)
        if with_fusion:
            areas.append(dense_areas(scan.density))
            labels.append(scan.rows["any"].to_numpy())

    if training is not None:
        for scan in _scans(training, slice(None), network):
            note(scan)
    for scan in _scans(cohort, slice(None, None, THRESHOLD_SHARE), network):
        note(scan)
        choosing += 1
        if (bleeds := scan.truth.any(axis=(1, 2))).any():
            maps = {name: found[bleeds] for name, found in scan.maps(methods)[0].items()}
            density = scan.density[bleeds] if with_fusion else None
            bleeding.append(_BleedingSlices(maps, density, scan.truth[bleeds], scan.brain[bleeds]))
    if len(bleeding) < 2:
        got = f"{len(bleeding)} bleeding patients to choose thresholds on"
        raise InputError("calibration", got, "at least 2", "Give more patients with a bleed.")
    threshold_hu = _density_threshold(np.concatenate(areas), np.concatenate(labels)) if with_fusion else None

    thresholds = {}
    for method in methods:
        curves = [
            dice_curve(_score_maps(method, each.maps, each.density, threshold_hu), each.truth, each.brain, GRID)
            for each in bleeding
        ]
        thresholds[method] = best_threshold(np.concatenate(curves), GRID) | {"folds": []}

    true_ml, predicted_ml = list[float](), {method: list[float]() for method in methods}
    for number in range(1, THRESHOLD_SHARE):
        for scan in _scans(cohort, slice(number, None, THRESHOLD_SHARE), network):
            usual.append(scan.measured)
            true_ml.append(_true_ml(scan))
            maps, scores = scan.maps(methods)
            shown, density = scores >= network.detection_threshold, scan.density if with_fusion else None
            for method, volumes in predicted_ml.items():
                found, threshold = _score_maps(method, maps, density, threshold_hu), thresholds[method]["threshold"]
                native = on_native_grid(scan.volume, scan.rows, found, scan.brain, threshold, shown)
                volumes.append(volume_ml(native.mask, scan.volume, scan.rows))

    count = choosing + len(true_ml)
    write_json(network.folder / THRESHOLDS, {"dataset": f"calibration on {count} {source}", "methods": thresholds})
    calibration = Calibration(
        weights=network.sha256, cohort=f"{len(true_ml)} {source}", reference=reference_ranges(usual),
        intervals={method: calibrate_interval(volumes, true_ml) for method, volumes in predicted_ml.items()},
        density_threshold_hu=threshold_hu,
    )  # fmt: skip
    write_json(network.folder / CALIBRATION, calibration.model_dump(mode="json"))
    return network.folder / CALIBRATION


def _scans(cohort: _Cohort, which: slice, network: Network) -> Iterator[_Scan]:
    """Some scans of a cohort, without those that cannot be read, one at a time."""
    reader = READERS[cohort.kind]
    studies: Sequence[Study] = reader.list_studies(cohort.raw, 1, str).studies[which]
    for study in tqdm(studies, desc=f"calibrating on {cohort.kind}", disable=None):
        try:
            yield _Scan(reader.read_study(cohort.raw, study), network)
        except UnusableError:
            continue


def _score_maps(
    method: str, maps: dict[str, HalfMaps], density: npt.NDArray[np.float32] | None, threshold_hu: float | None
) -> npt.NDArray[np.float32]:
    """Score maps of a method [slice, px, px], from the maps behind all methods, and the density."""
    if method in FUSED and density is not None and threshold_hu is not None:
        return with_density(maps[FUSED[method]], density, threshold_hu)
    return maps[method].astype(np.float32)


def _density_threshold(areas: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    """`best_density_threshold` of the slices [n] whose label is known; a label is 0, 1, or -1 for none.

    Raises:
        InputError: If all slices bleed, or none does.
    """
    known = labels >= 0
    if len(np.unique(labels[known])) < 2:
        expected, remedy = (
            "slices with and without a bleed",
            "Give other patients, or calibrate hgi_sam alone: --method.",
        )
        raise InputError("slice labels to choose the density threshold from", "one kind at most", expected, remedy)
    return best_density_threshold(areas[known], labels[known] == 1)[0]


def _true_ml(scan: _Scan) -> float:
    """Volume of the annotated bleed."""
    if scan.volume.mask is None:
        raise ValueError("a data set without masks")
    return volume_ml(scan.volume.mask, scan.volume, scan.rows)

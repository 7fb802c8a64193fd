"""Calibration of a network on patients whose masks are known: thresholds, the interval of the volume, usual scans.

By default the patients are phantoms: their truth is exact, and says nothing about patients. One command makes both
files beside the weights again after a change of network or phantom: `hgisam calibrate phantom-binary`.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm import tqdm

from data_prep.phantom.cohort import Layout, write_phantom
from data_prep.raw_folder import Listing
from data_prep.study import READERS, Settings, prepare_volume
from data_prep.volume import Study, UnusableError, Volume
from hgisam.errors import InputError
from hgisam.evaluation.masks import best_threshold, dice_curve
from hgisam.evaluation.score_maps import grid_for
from hgisam.maps import METHODS
from hgisam.models.checkpoint import checkpoint_folder, load_checkpoint
from hgisam.runs.files import write_json
from hgisam_scans.find_scans import Candidate
from hgisam_scans.networks import CALIBRATION, HALF, PROBABILITY, THRESHOLDS, Calibration, Network, load_networks
from hgisam_scans.segmentation import segment_volume
from hgisam_scans.series_choice import Choice
from hgisam_scans.trust import measure_scan, reference_ranges
from hgisam_scans.volume_interval import calibrate_interval

MASKED = ("ct-ich", "bhsd", "instance")  # readers of data sets with masks
THRESHOLD_SHARE = 3  # one patient in three chooses the threshold, the others calibrate the interval
_Prepared = tuple[dict[str, npt.NDArray[Any]], pd.DataFrame, dict[str, Any]]
TRAINING_PATIENTS = 24  # phantoms of the training cohort, whose scanners differ, for the usual scans


def calibrate(
    checkpoint: str | Path, *, data: str | Path | None = None, kind: str = "ct-ich", patients: int = 90,
    seed: int = 77, methods: Sequence[str] = ("hgi_sam", "swin_sam", "grad_cam"), jobs: int = 1,
) -> Path:  # fmt: skip
    """Choose thresholds and calibrate the interval of the volume of one network; writes two files beside its weights.

    `thresholds.json` has the format of an evaluated run, so that `hgisam evaluate` reads it too. `calibration.json` is
    a `Calibration`. One patient in three chooses the thresholds, the others calibrate the interval.

    Args:
        checkpoint: As in `load_networks`.
        data: Raw data set with masks, never of patients the network was trained on; None for phantoms.
        kind: Reader of that data set: "ct-ich", "bhsd" or "instance".
        patients: Phantoms of the evaluation cohort to generate without `data`.
        seed: Of the phantoms; a profile trains on those of its own seed.
        methods: Map methods of a classifier; a segmenter has only "probability".
        jobs: Processes that generate phantoms.

    Returns:
        Path of `calibration.json`.

    Raises:
        InputError: If the data set has too few patients with a bleed, or the reader is unknown.
    """
    folder = checkpoint_folder(checkpoint)
    if load_checkpoint(folder).profile.task == "segmentation":
        methods = [PROBABILITY]
    networks = [load_networks(folder, method=name, threshold=HALF)[0] for name in methods]
    if data is not None:
        if kind not in MASKED:
            raise InputError("--kind", kind, " or ".join(MASKED), "Give a data set with masks.")
        READERS[kind].tables(data)  # says what is missing
        return _write(networks, kind, Path(data), f"scans of {kind}", None)
    with tempfile.TemporaryDirectory(prefix="calibrate-") as scratch:
        cohorts: dict[Layout, int] = {"ct-ich": patients, "rsna": TRAINING_PATIENTS}
        for layout, count in cohorts.items():
            write_phantom(Path(scratch, layout), layout=layout, patients=count, seed=seed, jobs=jobs)
        return _write(networks, "ct-ich", Path(scratch, "ct-ich"), f"phantoms, seed {seed}", Path(scratch, "rsna"))


def _write(networks: Sequence[Network], kind: str, raw: Path, source: str, training: Path | None) -> Path:
    """Measure a cohort with masks, and perhaps scans like those of the training, and write both files.

    Args:
        networks: The same weights, with each method.
        kind: Reader of the cohort.
        raw: The cohort.
        source: The cohort in words.
        training: Further scans for the reference, in the layout of RSNA 2019.
    """
    folder, usual = networks[0].folder, list[dict[str, float]]()
    if training is not None:
        for volume in _volumes("rsna", training):
            usual.append(_measured(volume, _prepare(volume, networks[0])))
    curves: dict[str, list[npt.NDArray[np.float64]]] = {network.method: [] for network in networks}
    count = 0
    for number, volume in enumerate(_volumes(kind, raw)):
        count += 1
        prepared = _prepare(volume, networks[0])
        usual.append(_measured(volume, prepared))
        if number % THRESHOLD_SHARE == 0:
            for network in networks:
                curves[network.method] += _dice_curves(network, prepared)
    if min(map(len, curves.values())) < 2:
        got = f"{min(map(len, curves.values()))} bleeding patients to choose thresholds on"
        raise InputError("calibration", got, "at least 2", "Give more patients with a bleed.")
    thresholds = {
        method: best_threshold(np.concatenate(parts), _grid(method)) | {"folds": []} for method, parts in curves.items()
    }
    chosen = [replace(network, threshold=thresholds[network.method]["threshold"]) for network in networks]
    true_ml, predicted_ml = list[float](), {network.method: list[float]() for network in networks}
    for number, volume in enumerate(_volumes(kind, raw)):
        if number % THRESHOLD_SHARE:
            true_ml.append(_true_ml(volume))
            for network in chosen:
                predicted_ml[network.method].append(segment_volume(volume, _choice(volume), [network]).ml)
    write_json(folder / THRESHOLDS, {"dataset": f"calibration on {count} {source}", "methods": thresholds})
    found = Calibration(
        weights=networks[0].sha256, cohort=f"{len(true_ml)} {source}", reference=reference_ranges(usual),
        intervals={method: calibrate_interval(volumes, true_ml) for method, volumes in predicted_ml.items()},
    )  # fmt: skip
    write_json(folder / CALIBRATION, found.model_dump(mode="json"))
    return folder / CALIBRATION


def _choice(volume: Volume) -> Choice:
    """A volume without files, as a series."""
    study = Study("", "", ("",), volume.labels)
    return Choice(Candidate(Path(), study, "", "", "NIfTI", "", 1, (), len(volume.hu), 0.0), "", ())


def _volumes(kind: str, raw: Path) -> Iterator[Volume]:
    """Each scan of a raw data set that can be read, one at a time."""
    listing: Listing = READERS[kind].list_studies(raw, 1, str)
    for study in tqdm(listing.studies, desc=f"calibrating on {kind}", disable=None):
        try:
            yield READERS[kind].read_study(raw, study)
        except UnusableError:
            continue


def _prepare(volume: Volume, network: Network) -> _Prepared:
    """The scan on the grid of the network, see `data_prep.study.prepare_volume`."""
    px, field_mm = network.grid
    return prepare_volume(volume, Settings("folder", px, field_mm, labelled=False))


def _measured(volume: Volume, prepared: _Prepared) -> dict[str, float]:
    arrays, rows, statistics = prepared
    return measure_scan(volume, arrays["hu"], arrays["brain"], rows, statistics)


def _grid(method: str) -> npt.NDArray[np.float64]:
    return grid_for(method if method in METHODS else "hgi_sam", 100)


def _dice_curves(network: Network, prepared: _Prepared) -> Iterator[npt.NDArray[np.float64]]:
    """Dice [bleeding slice, threshold] of a patient with a bleed; nothing for one without."""
    arrays, rows, _ = prepared
    truth = arrays["mask"] > 0
    if (bleeds := truth.any(axis=(1, 2))).any():
        maps, _ = network.predict(arrays["hu"], arrays["brain"], rows)
        yield dice_curve(maps[bleeds], truth[bleeds], arrays["brain"][bleeds], _grid(network.method))


def _true_ml(volume: Volume) -> float:
    """Volume of the annotated bleed."""
    if volume.mask is None:
        raise ValueError("a data set without masks")
    gaps = np.diff(volume.positions_mm)
    slice_mm = np.append(gaps, gaps[-1:] if len(gaps) else [volume.slice_mm])
    pixels = (volume.mask > 0).sum(axis=(1, 2))
    return float(pixels @ slice_mm) * volume.row_mm * volume.col_mm / 1000

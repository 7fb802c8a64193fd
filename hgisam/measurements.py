"""The steps that measure what a run made: its maps, all methods together, and what each choice of a map is worth."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.ablation import MOST_SLICES, ablate, variants_of
from hgisam.checkpoint import Checkpoint, load_checkpoint
from hgisam.compare import bleeding_rows
from hgisam.diagnosis import with_lesion_sizes
from hgisam.evaluate import measure, predictions_table
from hgisam.failure_causes import failures
from hgisam.folders import sha256_of
from hgisam.localise import localise, summarise_localisation
from hgisam.pipeline import open_step_data
from hgisam.prepared import PreparedDataset
from hgisam.profile import Profile
from hgisam.run import read_json, read_manifest, read_table, require_step, run_step, step_dir, write_json
from hgisam.sanity import sanity_checks
from hgisam.summary import summarise
from hgisam.thresholds import choose_thresholds, chosen_on, thresholds_by_slice
from hgisam.values import Values, candidates, read_values

log = logging.getLogger(__name__)

STUDIES = {"binary_vs_subtype": "classifiers/study/study.json"}  # name in the summary → file of the run
OTHER_VALUES = ("baselines/*/maps", "refined/maps")  # steps besides "maps" that leave values to threshold


def evaluate_step(profile: Profile, runs_dir: Path) -> Path:
    """Thresholds and figures of the classifier's maps on `ct-ich`, every patient at a threshold chosen on others.

    Returns:
        `runs/<profile>/evaluate`; `summary.json` is copied to `runs/<profile>`.
    """
    return _measure_step(profile, runs_dir, "evaluate", {"maps": require_step(profile, runs_dir, "maps")})


def results_step(profile: Profile, runs_dir: Path) -> Path:
    """The same for all methods whose values the run holds (maps, baselines, refined masks), and why each mask is wrong.

    Returns:
        `runs/<profile>/results`; `summary.json` is copied to `runs/<profile>`.
    """
    run = step_dir(profile, runs_dir, "")
    maps = require_step(profile, runs_dir, "maps")
    others = sorted(path.parent for kind in OTHER_VALUES for path in run.glob(f"{kind}/manifest.json"))
    sources = {folder.relative_to(run).as_posix(): folder for folder in (maps, *others)}
    studies = {name: run / file for name, file in STUDIES.items() if (run / file).is_file()}
    return _measure_step(profile, runs_dir, "results", sources, studies=studies, explain=True)


def _measure_step(
    profile: Profile,
    runs_dir: Path,
    step: str,
    sources: Mapping[str, Path],
    *,
    studies: Mapping[str, Path] | None = None,
    explain: bool = False,
) -> Path:
    """Measures all values of some steps, the classifier's maps first, whose scores are the detection.

    What `studies` found stands in the summary too. Where asked to `explain`, it also leaves `failures.parquet`.
    """
    studies = studies or {}
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")
    written = {name: read_manifest(folder)["outputs"] for name, folder in sources.items()}
    mapped = sources["maps"]

    def work(folder: Path) -> None:
        found = read_values(*(source / "maps.zarr" for source in sources.values()))
        values = {name: found[name] for name in dict.fromkeys((*profile.maps.methods, *found))}
        chosen = choose_thresholds(data, values, candidates(values), count=profile.evaluate.thresholds)
        thresholds = {"dataset": data.fingerprint, "split": "folds", "methods": chosen}
        write_json(folder / "thresholds.json", thresholds)
        scores = read_table(mapped / "scores.parquet")
        write_evaluation(folder, load_checkpoint(trained), profile, data, values, scores, thresholds)
        if studies:
            summary = read_json(folder / "summary.json")
            write_json(folder / "summary.json", summary | {"studies": {n: read_json(p) for n, p in studies.items()}})
        if explain:
            predictions = read_table(folder / "predictions.parquet")
            causes = failures(data, values, thresholds_by_slice(data, thresholds), predictions)
            causes.to_parquet(folder / "failures.parquet", index=False)

    folder = run_step(
        profile,
        runs_dir,
        step,
        work,
        code=["hgisam.evaluate", "hgisam.summary", "hgisam.thresholds", "hgisam.diagnosis", "hgisam.failure_causes"],
        sections=("maps", "evaluate"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "scores": written["maps"]["scores.parquet"],
            **{name: outputs["maps.zarr"] for name, outputs in written.items()},
            **{name: sha256_of(path) for name, path in studies.items()},
        },
    )
    shutil.copyfile(folder / "summary.json", folder.parent / "summary.json")
    return folder


def ablations_step(profile: Profile, runs_dir: Path) -> Path:
    """Ablations and sanity checks of the maps on bleeding slices of `ct-ich`; returns `runs/<profile>/ablations`.

    The test of shuffled labels is made where `classifiers/shuffled`, a training on such labels, is finished.
    """
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")
    shuffled = step_dir(profile, runs_dir, "classifiers/shuffled")
    inputs = {"train": trained} | ({"shuffled": shuffled} if (shuffled / "manifest.json").is_file() else {})

    def work(folder: Path) -> None:
        networks = {name: load_checkpoint(path) for name, path in inputs.items()}
        rows = {split: bleeding_rows(data, split, most=MOST_SLICES, seed=profile.seed) for split in ("val", "test")}
        variants = variants_of(networks["train"], profile)
        table, chosen = ablate(networks["train"], profile, data, variants, rows)
        table.to_parquet(folder / "ablations.parquet")
        write_json(folder / "thresholds.json", {"dataset": data.fingerprint, "split": "val", "methods": chosen})
        checks = sanity_checks(networks["train"], profile, data, rows["test"], shuffled=networks.get("shuffled"))
        checks.to_parquet(folder / "sanity.parquet", index=False)

    hashes = {name: read_manifest(path)["outputs"]["model.safetensors"] for name, path in inputs.items()}
    return run_step(
        profile,
        runs_dir,
        "ablations",
        work,
        code=["hgisam.ablation", "hgisam.sanity"],
        sections=("maps", "evaluate", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, **hashes},
    )


def write_evaluation(
    folder: Path,
    checkpoint: Checkpoint,
    profile: Profile,
    data: PreparedDataset,
    values: Values,
    scores: pd.DataFrame,
    thresholds: Mapping[str, Any],
) -> None:
    """Writes predictions, metrics, localisation and summary of all slices of a set into `folder`.

    Args:
        folder: Exists.
        checkpoint: Of the classifier, for its own threshold of what bleeds.
        profile: Section `evaluate` and the seed.
        data: With masks, or no segmentation is measured; with boxes, or no localisation is.
        values: From `read_values`.
        scores: row, score.
        thresholds: As `thresholds.json`.
    """
    predictions = predictions_table(data, scores, checkpoint.detection_threshold)
    measured, own = None, chosen_on(data, thresholds)
    if data.mask is None:
        log.warning("%s has no masks: %s only", data.path, "detection" if data.boxes is None else "detection and boxes")
    else:
        predictions = with_lesion_sizes(predictions, data)
        measured = measure(data, values, thresholds_by_slice(data, thresholds), predictions)
        measured.to_parquet(folder / "metrics.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    used = {
        name: {"threshold": chosen["threshold"], **({"thresholds_by_fold": chosen["folds"]} if own else {})}
        for name, chosen in thresholds["methods"].items()
    }
    options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}
    summary = summarise(predictions, measured, used, detection_threshold=checkpoint.detection_threshold, **options)
    about = {
        "profile": profile.name,
        "dataset": data.meta["name"],
        "source": data.meta["source"],
        "split": "folds" if own else "all",
    }
    if data.boxes is not None:
        boxes = localise(data, values, thresholds_by_slice(data, thresholds))
        boxes.to_parquet(folder / "localisation.parquet", index=False)
        summary["localisation"] = summarise_localisation(boxes, **options)
    write_json(folder / "summary.json", {**about, **summary})

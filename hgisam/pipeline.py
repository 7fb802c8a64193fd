"""The three heavy steps, each from one folder of a run to the next: train, map, evaluate.

Notebooks and command line call these, so that both make the same files.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import zarr

from hgisam.ablation import MOST_SLICES, ablate, variants_of
from hgisam.checkpoint import load_checkpoint
from hgisam.compare import bleeding_rows
from hgisam.errors import InputError
from hgisam.evaluate import FLOORS, choose_thresholds, measure, predictions_table, summarise
from hgisam.extract import extract_maps
from hgisam.launch import launch, node_rank
from hgisam.prepared import PreparedDataset, open_prepared, sha256_of, whole_folder
from hgisam.pretrained import checkpoint_folder
from hgisam.profile import Profile
from hgisam.run import (
    environment,
    partial_of,
    read_json,
    read_manifest,
    require_step,
    run_step,
    step_dir,
    write_json,
)
from hgisam.sanity import sanity_checks

log = logging.getLogger(__name__)


def open_step_data(profile: Profile, runs_dir: Path, name: str) -> PreparedDataset:
    """Opens the prepared set "rsna" or "ct-ich" of a run.

    Raises:
        InputError: If it is not there; says which notebook makes it.
    """
    return open_prepared(require_step(profile, runs_dir, f"prepared/{name}"))


def train_step(profile: Profile, runs_dir: Path) -> Path:
    """Trains, or takes `train.checkpoint`; returns `runs/<profile>/train`.

    Classifiers learn from the slice labels of the prepared `rsna` set, segmenters from the masks of all but two folds
    of `ct-ich`.

    A machine that is not the first of `compute.nodes` joins the training and leaves the folder to the first.
    """
    name = "ct-ich" if profile.task == "segmentation" else "rsna"
    data = open_step_data(profile, runs_dir, name)
    folder = step_dir(profile, runs_dir, "train")
    if profile.compute.nodes > 1 and node_rank() > 0:
        launch(profile, data.path, partial_of(folder))
        return folder
    others = {"checkpoint": profile.train.checkpoint, "start_from": profile.train.start_from}
    files = {key: checkpoint_folder(name) / "model.safetensors" for key, name in others.items() if name}
    if (local := profile.model.pretrained) is not None and local.is_file():
        files["pretrained"] = local
    return run_step(
        profile,
        runs_dir,
        "train",
        lambda folder: launch(profile, data.path, folder),
        code=["hgisam.launch"],
        sections=("task", "data", "windows", "model", "segmenter", "train", "compute"),
        inputs={f"prepared/{name}": data.fingerprint, **{key: sha256_of(file) for key, file in files.items()}},
    )


def map_step(profile: Profile, runs_dir: Path) -> Path:
    """Maps and scores of the prepared `ct-ich` set; returns `runs/<profile>/maps`."""
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained = require_step(profile, runs_dir, "train")
    return run_step(
        profile,
        runs_dir,
        "maps",
        lambda folder: extract_maps(load_checkpoint(trained), profile, data, folder),
        code=["hgisam.extract"],
        sections=("maps", "compute"),
        inputs={"prepared/ct-ich": data.fingerprint, "train": read_manifest(trained)["outputs"]["model.safetensors"]},
    )


def evaluate_step(profile: Profile, runs_dir: Path) -> Path:
    """Thresholds from the validation patients of `ct-ich`, figures from its test patients.

    Returns:
        `runs/<profile>/evaluate`; `summary.json` is copied to `runs/<profile>`.
    """
    data = open_step_data(profile, runs_dir, "ct-ich")
    trained, mapped = (require_step(profile, runs_dir, step) for step in ("train", "maps"))

    def work(folder: Path) -> None:
        maps = zarr.open_group(mapped / "maps.zarr", mode="r")
        methods = [*profile.maps.methods, *FLOORS]
        chosen = choose_thresholds(data, maps, methods, count=profile.evaluate.thresholds)
        thresholds = {"dataset": data.fingerprint, "split": "val", "methods": chosen}
        write_json(folder / "thresholds.json", thresholds)
        _evaluate(folder, profile, trained, data, mapped, thresholds, split="test")

    outputs = read_manifest(mapped)["outputs"]
    folder = run_step(
        profile,
        runs_dir,
        "evaluate",
        work,
        code=["hgisam.evaluate"],
        sections=("maps", "evaluate"),
        inputs={"prepared/ct-ich": data.fingerprint, "maps": outputs["maps.zarr"], "scores": outputs["scores.parquet"]},
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


def evaluate_elsewhere(run: Path, data_path: Path, out: Path) -> Path:
    """Tries a finished run, with its own stored thresholds, on another prepared set.

    All patients of the set are measured; of the set that the thresholds were chosen on, only its test patients.

    Args:
        run: `runs/<profile>` of a finished run.
        data_path: A prepared set.
        out: Folder to make: the files of `evaluate_step`, and the maps.

    Raises:
        InputError: If the run is not finished, the data do not fit, or `out` is something else than such a folder.
    """
    _check_out(run, data_path, out)
    for step in ("train", "evaluate"):
        if not (run / step / "manifest.json").is_file():
            raise InputError(f"run {run}", f"no finished {step} in it", "the folder of a whole run", "Finish it first.")
    profile = load_checkpoint(run / "train").profile
    data = open_prepared(data_path, verify=True)
    thresholds = read_json(run / "evaluate" / "thresholds.json")
    with whole_folder(out) as folder:
        extract_maps(load_checkpoint(run / "train"), profile, data, folder)
        split = "test" if thresholds["dataset"] == data.fingerprint else None
        write_json(folder / "thresholds.json", thresholds)
        _evaluate(folder, profile, run / "train", data, folder, thresholds, split=split)
        manifest = {
            "step": "evaluate elsewhere",
            "profile": profile.model_dump(mode="json"),
            "inputs": {"data": data.fingerprint, "checkpoint": sha256_of(run / "train" / "model.safetensors")},
            **environment(),
        }
        write_json(folder / "manifest.json", manifest)
    return out


def _evaluate(
    folder: Path,
    profile: Profile,
    trained: Path,
    data: PreparedDataset,
    mapped: Path,
    thresholds: Mapping[str, Any],
    *,
    split: str | None,
) -> None:
    """Writes predictions, metrics and summary of one split, or of all slices, into `folder`."""
    maps = zarr.open_group(mapped / "maps.zarr", mode="r")
    detection_threshold = load_checkpoint(trained).detection_threshold
    predictions = predictions_table(data, pd.read_parquet(mapped / "scores.parquet"), detection_threshold)
    predictions = predictions.iloc[data.rows(split)].reset_index(drop=True)
    methods = {name: chosen["threshold"] for name, chosen in thresholds["methods"].items()}
    measured = measure(data, maps, methods, predictions) if data.mask is not None else None
    if measured is None:
        log.warning("%s has no masks: detection only", data.path)
    else:
        measured.to_parquet(folder / "metrics.parquet", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    options = {"bootstrap": profile.evaluate.bootstrap, "seed": profile.seed}
    summary = summarise(predictions, measured, methods, detection_threshold=detection_threshold, **options)
    about = {
        "profile": profile.name,
        "dataset": data.meta["name"],
        "source": data.meta["source"],
        "split": split or "all",
    }
    write_json(folder / "summary.json", {**about, **summary})


def _check_out(run: Path, data: Path, out: Path) -> None:
    """Refuses to replace anything but an earlier result."""
    remedy = "Name a folder that does not exist yet."
    if out.resolve() in {run.resolve(), data.resolve(), *run.resolve().parents, *data.resolve().parents}:
        raise InputError("--out", out, "a folder apart from the run and the data", remedy)
    if out.exists() and not (out / "summary.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("--out", f"{out}, which holds something else", "a new folder or an earlier result", remedy)

"""A finished run tried on other patients, with what it chose on its own."""

from collections.abc import Sequence
from pathlib import Path

from hgisam.checkpoint import Checkpoint, load_checkpoint
from hgisam.errors import InputError
from hgisam.extract import extract_maps
from hgisam.folders import sha256_of, whole_folder
from hgisam.measurements import write_evaluation
from hgisam.prepared import PreparedDataset, open_prepared
from hgisam.run import environment, read_json, read_manifest, read_table, write_json
from hgisam.values import read_values

MAPPED, EVALUATED = "map elsewhere", "evaluate elsewhere"  # what their manifests say


def map_elsewhere(run: Path, data_path: Path, out: Path) -> Path:
    """Maps and scores of a finished run's classifier on another prepared set, with labels or without.

    Args:
        run: `runs/<profile>` with a finished training.
        data_path: A prepared set.
        out: Folder to make: the files of `extract_maps` and a manifest.

    Raises:
        InputError: If the run is not finished, the data do not fit, or `out` is something else than such a folder.
    """
    _check(run, data_path, out, needs=["train"], makes=MAPPED)
    data = open_prepared(data_path, verify=True)
    with whole_folder(out) as folder:
        _extract(run, data, folder)
        _write_manifest(MAPPED, run, data, folder)
    return out


def evaluate_elsewhere(run: Path, data_path: Path, out: Path) -> Path:
    """Tries a finished run, with its own stored thresholds, on another prepared set.

    All patients are measured; those of the set that the thresholds were chosen on, with the thresholds of their folds.

    Args:
        run: `runs/<profile>` of a finished run.
        data_path: A prepared set.
        out: Folder to make: the files of `evaluate_step`, and the maps.

    Raises:
        InputError: If the run is not finished, the data do not fit or have no labels, or `out` is something else than
            such a folder.
    """
    _check(run, data_path, out, needs=["train", "evaluate"], makes=EVALUATED)
    data = open_prepared(data_path, verify=True)
    if not data.labelled:
        remedy = "Use hgisam map with the same --run, --data and --out."
        raise InputError(f"prepared data set {data_path}", "no labels in it", "slices that bleed or not", remedy)
    thresholds = read_json(run / "evaluate" / "thresholds.json")
    with whole_folder(out) as folder:
        checkpoint = _extract(run, data, folder)
        write_json(folder / "thresholds.json", thresholds)
        values, scores = read_values(folder / "maps.zarr"), read_table(folder / "scores.parquet")
        write_evaluation(folder, checkpoint, checkpoint.profile, data, values, scores, thresholds)
        _write_manifest(EVALUATED, run, data, folder)
    return out


def _extract(run: Path, data: PreparedDataset, folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(run / "train")
    extract_maps(checkpoint, checkpoint.profile, data, folder)
    return checkpoint


def _write_manifest(step: str, run: Path, data: PreparedDataset, folder: Path) -> None:
    inputs = {"data": data.fingerprint, "checkpoint": sha256_of(run / "train" / "model.safetensors")}
    profile = read_manifest(run / "train")["profile"]
    write_json(folder / "manifest.json", {"step": step, "profile": profile, "inputs": inputs, **environment()})


def _check(run: Path, data: Path, out: Path, *, needs: Sequence[str], makes: str) -> None:
    """Holds a run to the steps that are needed of it; refuses to replace anything but an earlier result of its kind."""
    for step in needs:
        if not (run / step / "manifest.json").is_file():
            raise InputError(f"run {run}", f"no finished {step} in it", "the folder of a whole run", "Finish it first.")
    remedy = "Name a folder that does not exist yet."
    if out.resolve() in {run.resolve(), data.resolve(), *run.resolve().parents, *data.resolve().parents}:
        raise InputError("--out", out, "a folder apart from the run and the data", remedy)
    earlier = (out / "manifest.json").is_file() and read_manifest(out).get("step") == makes
    if out.exists() and not earlier and (not out.is_dir() or any(out.iterdir())):
        raise InputError("--out", f"{out}, which holds something else", "a new folder or an earlier result", remedy)

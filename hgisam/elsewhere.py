"""A finished run tried on other patients, with what it chose on its own."""

from pathlib import Path

from hgisam.checkpoint import load_checkpoint
from hgisam.errors import InputError
from hgisam.extract import extract_maps
from hgisam.measurements import write_evaluation
from hgisam.prepared import open_prepared, sha256_of, whole_folder
from hgisam.run import environment, read_json, read_table, write_json
from hgisam.values import read_values


def evaluate_elsewhere(run: Path, data_path: Path, out: Path) -> Path:
    """Tries a finished run, with its own stored thresholds, on another prepared set.

    All patients are measured; those of the set that the thresholds were chosen on, with the thresholds of their folds.

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
    checkpoint = load_checkpoint(run / "train")
    profile = checkpoint.profile
    data = open_prepared(data_path, verify=True)
    thresholds = read_json(run / "evaluate" / "thresholds.json")
    with whole_folder(out) as folder:
        extract_maps(checkpoint, profile, data, folder)
        write_json(folder / "thresholds.json", thresholds)
        values, scores = read_values(folder / "maps.zarr"), read_table(folder / "scores.parquet")
        write_evaluation(folder, checkpoint, profile, data, values, scores, thresholds)
        manifest = {
            "step": "evaluate elsewhere",
            "profile": profile.model_dump(mode="json"),
            "inputs": {"data": data.fingerprint, "checkpoint": sha256_of(run / "train" / "model.safetensors")},
            **environment(),
        }
        write_json(folder / "manifest.json", manifest)
    return out


def _check_out(run: Path, data: Path, out: Path) -> None:
    """Refuses to replace anything but an earlier result."""
    remedy = "Name a folder that does not exist yet."
    if out.resolve() in {run.resolve(), data.resolve(), *run.resolve().parents, *data.resolve().parents}:
        raise InputError("--out", out, "a folder apart from the run and the data", remedy)
    if out.exists() and not (out / "summary.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("--out", f"{out}, which holds something else", "a new folder or an earlier result", remedy)

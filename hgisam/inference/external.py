"""A finished run tried on other patients, with what it chose on its own."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.evaluation.outputs import write_evaluation
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import Checkpoint, load_checkpoint
from hgisam.runs.files import check_content, listed, read_json, read_table, write_json
from hgisam.runs.folders import MARK, check_named, is_free, partial_of, replace_folder, resumed_folder, sha256_of
from hgisam.runs.steps import environment, manifests_of_one_run, read_manifest

Threshold = Annotated[float, Field(strict=True, allow_inf_nan=False)]
MAPPED, EVALUATED = "map elsewhere", "evaluate elsewhere"  # what their manifests say


class _Chosen(BaseModel):
    threshold: Threshold
    folds: list[Threshold]


class _Thresholds(BaseModel):
    """What is read of `thresholds.json`."""

    dataset: str
    methods: dict[str, _Chosen]


def map_external(run: Path, data_path: Path, out: Path) -> Path:
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
    with _work(MAPPED, run, data, out) as folder:
        _extract(run, data, folder)
    return out


def evaluate_external(run: Path, data_path: Path, out: Path) -> Path:
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
    _check(run, data_path, out, needs=["train", "maps", "evaluate"], makes=EVALUATED)
    data = open_prepared(data_path, verify=True)
    if not data.labelled:
        remedy = "Use hgisam map with the same --run, --data and --out."
        raise InputError(f"prepared data set {data_path}", "no labels in it", "slices that bleed or not", remedy)
    thresholds = _read_thresholds(run / "evaluate" / "thresholds.json")
    with _work(EVALUATED, run, data, out) as folder:
        checkpoint = _extract(run, data, folder)
        write_json(folder / "thresholds.json", thresholds)
        score_maps, scores = read_score_maps(folder / "maps.zarr"), read_table(folder / "scores.parquet")
        profile = checkpoint.profile
        write_evaluation(
            folder, data, score_maps, scores, thresholds, detection_threshold=checkpoint.detection_threshold,
            profile_name=profile.name, bootstrap=profile.evaluate.bootstrap, seed=profile.seed,
        )  # fmt: skip
    return out


def _read_thresholds(path: Path) -> dict[str, Any]:
    """The thresholds that a run chose, see `hgisam.evaluation.thresholds`."""
    thresholds: dict[str, Any] = read_json(path)
    check_content(_Thresholds, thresholds, str(path), "the thresholds of a run", "Make the step evaluate again.")
    return thresholds


def _extract(run: Path, data: PreparedDataset, folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(run / "train")
    predictor = SlicePredictor.of(checkpoint, checkpoint.profile)
    extract_maps(predictor, methods_of(checkpoint.profile.maps), data, folder)
    return checkpoint


@contextmanager
def _work(step: str, run: Path, data: PreparedDataset, out: Path) -> Iterator[Path]:
    """A folder that becomes `out`, with a manifest, when the block ends well, and goes on where it was stopped."""
    inputs = {"data": data.fingerprint, "checkpoint": sha256_of(run / "train" / "model.safetensors")}
    manifest = {"step": step, "profile": read_manifest(run / "train")["profile"], "inputs": inputs, **environment()}
    fingerprint = json.dumps([step, inputs, manifest["profile"], manifest["code_hash"]], sort_keys=True)
    out = out.resolve()
    with resumed_folder(partial_of(out), fingerprint) as folder:
        yield folder
        outputs = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != MARK}
        write_json(folder / "manifest.json", {**manifest, "outputs": outputs})
        replace_folder(folder, out)
        (out / MARK).unlink()


def _check(run: Path, data: Path, out: Path, *, needs: Sequence[str], makes: str) -> None:
    """Holds a run to the steps that are needed of it; refuses to replace anything but an earlier result of its kind."""
    check_named(out)
    manifests_of_one_run(run, needs)
    remedy = "Name a folder that does not exist yet."
    if out.resolve() in {run.resolve(), data.resolve(), *run.resolve().parents, *data.resolve().parents}:
        raise InputError("--out", out, "a folder apart from the run and the data", remedy)
    partial, earlier = partial_of(out.resolve()), [MARK, *listed(out / "manifest.json", "outputs", step=makes)]
    if not is_free(out, earlier) or not ((partial / MARK).is_file() or is_free(partial)):
        raise InputError("--out", f"{out}, which holds something else", "a new folder or an earlier result", remedy)

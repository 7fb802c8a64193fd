"""External validation: a checkpoint or a finished run, with its own thresholds, on other data."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from hgisam.data.prepared import PreparedDataset, open_prepared, warn_of_odd_hu
from hgisam.errors import InputError
from hgisam.evaluation.outputs import write_evaluation
from hgisam.evaluation.score_maps import candidates, read_score_maps
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import PROBABILITY, SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint
from hgisam.runs.files import check_content, listed, read_json, read_table, write_json
from hgisam.runs.folders import MARK, check_named, is_free, partial_of, replace_folder, resumed_folder, sha256_of
from hgisam.runs.manifest import environment, manifests_of_one_run, read_manifest

Threshold = Annotated[float, Field(strict=True, allow_inf_nan=False)]
MAPPED, EVALUATED = "map external", "evaluate external"  # `step` of their manifests
ONE_HALF: dict[str, Any] = {"dataset": "none", "methods": {PROBABILITY: {"threshold": 0.5, "folds": []}}}  # by default


class _Chosen(BaseModel):
    threshold: Threshold
    folds: list[Threshold]


class _Thresholds(BaseModel):  # of `thresholds.json`
    dataset: str
    methods: dict[str, _Chosen]


def map_external(run: str | Path, data_path: str | Path, out: str | Path) -> Path:
    """Maps and scores of a classifier or a segmenter on another prepared set, with labels or without.

    Args:
        run: A run with a finished training, the folder of a training, or the name of a shipped checkpoint.
        data_path: A prepared set.
        out: Folder to make, with the files of `extract_maps` and a manifest.

    Raises:
        InputError: If there is no such checkpoint, the data do not fit, or `out` is something else than such a folder.
    """
    trained, out = checkpoint_folder(run), Path(out)
    with _extracted(MAPPED, trained, load_checkpoint(trained), _open(MAPPED, trained, Path(data_path), out), out):
        return out


def evaluate_external(run: str | Path, data_path: str | Path, out: str | Path) -> Path:
    """External validation of a network, with its own thresholds, on all patients of another prepared set.

    On the set that the thresholds were chosen on, patients are evaluated at those of their folds. Args and Raises as in
    `map_external`, for an evaluated run, a checkpoint with `thresholds.json`, or a segmenter, whose threshold is one
    half without; adds the files of `evaluate_step`.
    """
    trained, out = checkpoint_folder(run), Path(out)
    path, checkpoint = trained / "thresholds.json", load_checkpoint(trained)
    segments = checkpoint.profile.task == "segmentation"
    if not segments and (trained.parent == Path(run) or not path.is_file()):
        manifests_of_one_run(trained.parent, ["train", "maps", "evaluate"])
        path = trained.parent / "evaluate" / "thresholds.json"
    data = _open(EVALUATED, trained, Path(data_path), out)
    if not data.labelled:
        raise InputError(f"data set {data_path}", "no labels", "slices that bleed or not", "Use hgisam map instead.")
    thresholds = ONE_HALF if segments and not path.is_file() else read_json(path)
    check_content(_Thresholds, thresholds, str(path), "the thresholds of a run", "Rerun evaluate.")
    with _extracted(EVALUATED, trained, checkpoint, data, out) as folder:
        write_json(folder / "thresholds.json", thresholds)
        score_maps, scores = read_score_maps(folder / "maps.zarr"), read_table(folder / "scores.parquet")
        profile, known = checkpoint.profile, candidates(score_maps)  # no map here is fused with density
        mine = {name: chosen for name, chosen in thresholds["methods"].items() if name in known}
        write_evaluation(
            folder, data, score_maps, scores, thresholds | {"methods": mine}, bootstrap=profile.evaluate.bootstrap,
            detection_threshold=checkpoint.detection_threshold, profile_name=profile.name, seed=profile.seed,
        )  # fmt: skip
    return out


def _open(step: str, trained: Path, data_path: Path, out: Path) -> PreparedDataset:
    """Opens the data, if `out` is free or an earlier result of the same step."""
    check_named(out)
    remedy, target = "Name a folder that does not exist yet.", out.resolve()
    if target in {path for given in (trained.resolve(), data_path.resolve()) for path in (given, *given.parents)}:
        raise InputError("--out", out, "a folder apart from the run and the data", remedy)
    partial, earlier = partial_of(target), [MARK, *listed(out / "manifest.json", "outputs", step=step)]
    if not is_free(out, earlier) or not ((partial / MARK).is_file() or is_free(partial)):
        raise InputError("--out", f"{out}, which holds something else", "a new folder or an earlier result", remedy)
    data = open_prepared(data_path, verify=True)
    warn_of_odd_hu(data)
    return data


@contextmanager
def _extracted(step: str, trained: Path, checkpoint: Checkpoint, data: PreparedDataset, out: Path) -> Iterator[Path]:
    """A folder with maps and scores that becomes `out`, with a manifest, when the block ends well; can be resumed."""
    inputs = {"data": data.fingerprint, "checkpoint": sha256_of(trained / "model.safetensors")}
    manifest = {"step": step, "profile": read_manifest(trained)["profile"], "inputs": inputs, **environment()}
    fingerprint = json.dumps([step, inputs, manifest["profile"], manifest["code_hash"]], sort_keys=True)
    out = out.resolve()
    with resumed_folder(partial_of(out), fingerprint) as folder:
        predictor = SlicePredictor.of(checkpoint, checkpoint.profile)
        segments = checkpoint.profile.task == "segmentation"
        methods = {PROBABILITY: probability_of_bleeding} if segments else methods_of(checkpoint.profile.maps)
        extract_maps(predictor, methods, data, folder)
        yield folder
        outputs = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != MARK}
        write_json(folder / "manifest.json", {**manifest, "outputs": outputs})
        replace_folder(folder, out)
        (out / MARK).unlink()

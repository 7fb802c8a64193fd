"""Recorded runs: small results of runs that readers cannot repeat, packed with hashes, without patients and paths.

A recorded run has the layout of the run itself, plus `record.json` with a note, the hardware, the durations and the
hash of every file.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.data.prepared import is_phantom, open_prepared
from hgisam.errors import InputError
from hgisam.runs.files import listed, read_json, read_table, write_json
from hgisam.runs.folders import is_free, sha256_of, whole_folder
from hgisam.runs.manifest import manifests_of_one_run, read_manifest
from hgisam_book.hardware import hardware_words
from hgisam_book.recorded.excerpt import COHORT, DENSITY, EXCERPT, Excerpt
from hgisam_book.recorded.export import export_checkpoint, export_system, portable
from hgisam_book.recorded.reuse import REUSED, training_manifest, with_defaults

log = logging.getLogger(__name__)

STEPS = ("train", "maps", "evaluate")
OWN_SETS = ("other_domains",)  # studies with phantoms of their own, of which the record's cohort says nothing
STUDIES = ("classifiers", "baselines", "refined", "price", *OWN_SETS)  # folders whose trainings can be recorded
ALL_RESULTS = "results"  # step that evaluates all methods of the studies; recorded if the run has it
MAX_METRICS_KB = 300
MAX_CHECKPOINT_KB = 8000
Manifests = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RecordedRun:
    """Results of a recorded run.

    Attributes:
        record: name, note, tier ("laptop" or "GPU"), profile, hardware as text, durations_s by step, chapters_s by
            notebook (none in older records), files with their hashes.
        summary: `summary.json` of the run, of step `results` if the run has it, else of `evaluate`.
        thresholds: `evaluate/thresholds.json`.
        history: `train.csv`, one row per epoch.
        manifests: Step → manifest.
        metrics: `evaluate/metrics.parquet` with numbered patients and studies; None if it was missing or too large.
    """

    record: dict[str, Any]
    summary: dict[str, Any]
    thresholds: dict[str, Any]
    history: pd.DataFrame
    manifests: dict[str, dict[str, Any]]
    metrics: pd.DataFrame | None


def record_run(
    run: str | Path, out: str | Path, *, note: str = "", with_checkpoint: bool = False, trainings: Sequence[str] = ()
) -> Path:
    """Pack the results of a finished run.

    A training that the run reused from another record is packed with the manifest of its training: revision, machine
    and duration are those of the run that trained it.

    Args:
        run: Folder of the run, `runs/<profile>`.
        out: New folder; its name becomes the name of the record. An earlier record there is replaced.
        note: One sentence about the run for readers.
        with_checkpoint: Include the weights, as `hgisam_book.recorded.export` writes them.
        trainings: Patterns of further steps whose weights are recorded for reuse by later runs
            (`hgisam_book.recorded.reuse`), e.g. "classifiers/binary-*".

    Returns:
        The folder `out`.

    Raises:
        InputError: If the run is not finished, its steps belong to different runs, or a file changed after its step;
            if a pattern matches no training; if a checkpoint is too large; if `out` has other content.
    """
    run, out = Path(run), Path(out)
    if not is_free(out, listed(out / "record.json", "files")):
        raise InputError(str(out), "other content", "a new folder, or an earlier record", "Choose another folder.")
    has_all_results = (run / ALL_RESULTS / "manifest.json").is_file()
    manifests = manifests_of_one_run(run, [*STEPS, *([ALL_RESULTS] if has_all_results else [])])
    packed = {**manifests, "train": training_manifest(run / "train")}
    study_steps = {step for pattern in trainings for step in _matching_trainings(run, pattern, manifests)}
    with whole_folder(out) as folder:
        for step, manifest in packed.items():
            (folder / step).mkdir()
            write_json(folder / step / "manifest.json", portable(manifest))
        evaluated = ALL_RESULTS if has_all_results else "evaluate"
        for source, target in (
            ("train/train.csv", "train/train.csv"),
            ("evaluate/thresholds.json", "evaluate/thresholds.json"),
            (f"{evaluated}/summary.json", "summary.json"),
        ):
            shutil.copyfile(_verified(run, source, manifests), folder / target)
        trained_on = read_json(run / "train" / "model.json").get("data", {})
        if (cohort := run / "prepared" / COHORT).is_file() and is_phantom(trained_on):
            shutil.copyfile(cohort, folder / COHORT)
        if (density := run / "refined" / "pseudo" / "density.json").is_file():
            (folder / DENSITY).parent.mkdir(exist_ok=True)
            shutil.copyfile(density, folder / DENSITY)
        if "metrics.parquet" in manifests["evaluate"]["outputs"]:
            _pack_metrics(_verified(run, "evaluate/metrics.parquet", manifests), folder / "evaluate/metrics.parquet")
        if with_checkpoint:
            _pack_checkpoint(run / "train", folder / "train")
        for step in study_steps:
            _pack_checkpoint(run / step, folder / step)
        write_json(folder / "record.json", _record(out.name, " ".join(note.split()), packed, run, folder))
    return out


def add_trainings(run: str | Path, out: str | Path, trainings: Sequence[str]) -> Path:
    """Add weights of further trainings to a record, for reuse by later runs; its results stay as they are.

    Args:
        run: Folder of a run on the cohort of the record; it need not be finished.
        out: The record.
        trainings: As in `record_run`.

    Returns:
        The folder `out`.

    Raises:
        InputError: If `out` is no record, or a file of it changed; if a pattern matches no training; if a training saw
            another phantom or preparation than the record; if a checkpoint is too large.
    """
    run, out = Path(run), Path(out)
    recorded = _read_run(out)
    steps = sorted({step for pattern in trainings for step in _trainings(run, pattern)})
    if not steps:
        raise InputError("trainings to add", "no pattern", "one or more", "Give --trainings.")
    ours = with_defaults(recorded.manifests["train"]["profile"])
    for step in _of_the_cohort(steps):
        own = with_defaults(training_manifest(run / step)["profile"])
        own["phantom"]["excerpt"] = ours["phantom"]["excerpt"]  # the cohort is the same
        if differing := [section for section in ("phantom", "data") if own[section] != ours[section]]:
            got = f"another {' and '.join(differing)} than the record"
            raise InputError(f"training {step}", got, "the settings of the record", "Run with its profile.")
    with whole_folder(out) as folder:
        shutil.copytree(out, folder, ignore=shutil.ignore_patterns("record.json"), dirs_exist_ok=True)
        for step in steps:
            _pack_checkpoint(run / step, folder / step)
        write_json(folder / "record.json", {**recorded.record, "files": _hashes(folder)})
    return out


def add_excerpt(out: str | Path, cohort: str | Path, excerpt: Excerpt) -> Path:
    """Add the table of the training cohort and the scores on its excerpt to a record (`hgisam_book.recorded.excerpt`).

    Args:
        out: The record.
        cohort: Table of the whole cohort; for phantoms only.
        excerpt: Scores of its networks.

    Raises:
        InputError: If `out` is no record, or a file of it changed.
    """
    out = Path(out)
    recorded = _read_run(out)
    with whole_folder(out) as folder:
        shutil.copytree(out, folder, ignore=shutil.ignore_patterns("record.json", COHORT, EXCERPT), dirs_exist_ok=True)
        shutil.copyfile(cohort, folder / COHORT)
        write_json(folder / EXCERPT, excerpt.model_dump())
        write_json(folder / "record.json", {**recorded.record, "files": _hashes(folder)})
    return out


def read_runs(folder: str | Path) -> dict[str, RecordedRun]:
    """Read all recorded runs of a folder, as name → run.

    Args:
        folder: Folder of recorded runs, e.g. `book/recorded`; without such a folder the result is empty.

    Raises:
        InputError: If a recorded file is missing or changed; names it.
    """
    return {path.parent.name: _read_run(path.parent) for path in sorted(Path(folder).glob("*/record.json"))}


def _verified(run: Path, name: str, manifests: Manifests) -> Path:
    """Path of a step's output file, after a check that its hash is that of the manifest."""
    step, file = name.split("/")
    path = run / step / file
    if not path.is_file() or sha256_of(path) != manifests[step]["outputs"][file]:
        raise InputError(str(path), "missing or changed", "the file that the step wrote", "Rerun the step.")
    return path


def _pack_metrics(source: Path, target: Path) -> None:
    """Write the metrics with numbers in place of patient and study names, unless the table is too large."""
    table = read_table(source)
    numbered = {column: pd.factorize(table[column])[0] for column in ("patient", "study")}
    table.assign(**numbered).to_parquet(target, index=False, compression="zstd")
    if target.stat().st_size > 1000 * MAX_METRICS_KB:
        log.info("metrics.parquet is not recorded: more than %d kB", MAX_METRICS_KB)
        target.unlink()


def _trainings(run: Path, pattern: str) -> list[str]:
    """Finished trainings of the studies that match a pattern; an error if there are none."""
    kind, *rest = Path(pattern).parts or ("",)
    found = sorted(run.glob(f"{pattern}/model.safetensors")) if kind in STUDIES and ".." not in rest else []
    if not found:
        expected = f"the name of finished trainings, {'/… or '.join(STUDIES)}/…"
        raise InputError(f"trainings of {run}", repr(pattern), expected, "Change it, or run their notebook first.")
    return [path.parent.relative_to(run).as_posix() for path in found]


def _matching_trainings(run: Path, pattern: str, manifests: Manifests) -> list[str]:
    """Finished trainings of the studies that match a pattern, on the data of the run's steps or a set of their own."""
    steps = _trainings(run, pattern)
    data = {**manifests["train"]["inputs"], **manifests["maps"]["inputs"]}
    data.pop("recorded", None)  # each reused training has its own
    for step in _of_the_cohort(steps):
        inputs = read_manifest(_maker_of_data(run, step))["inputs"]
        read = {name: digest for name, digest in inputs.items() if name in data}
        if not read or any(data[name] != digest for name, digest in read.items()):
            raise InputError(
                f"training {step}", "trained on other data", "trained on the data of the run", "Rerun its notebook."
            )
    return steps


def _of_the_cohort(steps: Sequence[str]) -> list[str]:
    return [step for step in steps if not step.startswith(OWN_SETS)]


def _maker_of_data(run: Path, step: str) -> Path:
    """The folder of the step that read the run's data: the training, or the one that made the training's own set."""
    own = read_manifest(run / step)["inputs"].get("prepared/dataset")  # the name of every set that a study made
    made = [path.parent for path in sorted(run.glob("*/**/dataset"))] if own else []
    return next((maker for maker in made if open_prepared(maker / "dataset").fingerprint == own), run / step)


def _pack_checkpoint(trained: Path, target: Path) -> None:
    """Export a training; the export includes its history and manifest, which replace those packed before."""
    shutil.rmtree(target, ignore_errors=True)
    export = export_system if "system" in read_json(trained / "model.json") else export_checkpoint
    export(trained, target, training_manifest(trained))
    if (size := (target / "model.safetensors").stat().st_size) > 1000 * MAX_CHECKPOINT_KB:
        remedy = "Record it without the checkpoint."
        raise InputError("checkpoint to record", f"{size / 1e6:.1f} MB", f"at most {MAX_CHECKPOINT_KB} kB", remedy)


def _record(name: str, note: str, manifests: Manifests, run: Path, folder: Path) -> dict[str, Any]:
    trained = manifests["train"]
    on_gpu = bool(trained["hardware"]["gpu"]) and trained["profile"]["compute"]["accelerator"] != "cpu"
    machines = dict.fromkeys(hardware_words(manifest["hardware"]) for manifest in manifests.values())
    return {
        "name": name,
        "note": note,
        "tier": "GPU" if on_gpu else "laptop",
        "profile": trained["profile"]["name"],
        "hardware": "; ".join(machines),
        "durations_s": {step: manifest["duration_s"] for step, manifest in manifests.items()},
        "chapters_s": _chapters_s(run),
        "files": _hashes(folder),
    }


def _hashes(folder: Path) -> dict[str, str]:
    """Hash of every file of a record that is being written, by its name."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {file: sha256_of(folder / file) for file in files}


def _chapters_s(run: Path) -> dict[str, float]:
    """Run time in seconds of each executed notebook of a run that trained all its networks, as papermill noted it."""
    notebooks = {path.stem: read_json(path) for path in sorted(run.glob("notebooks/*.ipynb"))}
    trained = {name: notebook for name, notebook in notebooks.items() if not REUSED.search(json.dumps(notebook))}
    return {name: round(notebook["metadata"]["papermill"]["duration"], 1) for name, notebook in trained.items()}


def _read_run(folder: Path) -> RecordedRun:
    record = read_json(folder / "record.json")
    for name, digest in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != digest:
            got = "other content than was recorded" if path.is_file() else "no such file"
            raise InputError(str(path), got, f"SHA-256 {digest[:12]}…", "Restore it, or record the run again.")
    metrics = folder / "evaluate" / "metrics.parquet"
    return RecordedRun(
        record=record,
        summary=read_json(folder / "summary.json"),
        thresholds=read_json(folder / "evaluate" / "thresholds.json"),
        history=pd.read_csv(folder / "train" / "train.csv"),
        manifests={path.parent.name: read_manifest(path.parent) for path in sorted(folder.glob("*/manifest.json"))},
        metrics=read_table(metrics) if metrics.is_file() else None,
    )

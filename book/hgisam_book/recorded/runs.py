"""Runs that a reader can't repeat: their small results, packed with hashes, without patients and without paths.

A recorded run is laid out as the run itself, `record.json` beside it: what it is, where and how long it ran, and the
hash of every file.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hgisam.errors import InputError
from hgisam.runs.files import listed, read_json, read_table, write_json
from hgisam.runs.folders import is_free, sha256_of, whole_folder
from hgisam.runs.steps import hardware_words, manifests_of_one_run, read_manifest
from hgisam_book.recorded.export import export_checkpoint, portable_manifest
from hgisam_book.recorded.reuse import RECORDED

log = logging.getLogger(__name__)

STEPS = ("train", "maps", "evaluate")
STUDIES = ("classifiers", "baselines")  # folders of a run whose trainings may be recorded
ALL_RESULTS = "results"  # measures every method of the studies; recorded where the run has it
MOST_METRICS_KB = 300
MOST_CHECKPOINT_KB = 8000
Manifests = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RecordedRun:
    """What is left of a run.

    Attributes:
        record: name, note, tier ("laptop" or "GPU"), profile, hardware in words, durations_s by step,
            files with their hashes.
        summary: As the run's `summary.json`: of all results, if it has them.
        thresholds: As its `evaluate/thresholds.json`.
        history: A row an epoch.
        manifests: Step → manifest.
        metrics: As its `evaluate/metrics.parquet`, patients and studies numbered; None where it was absent or large.
    """

    record: dict[str, Any]
    summary: dict[str, Any]
    thresholds: dict[str, Any]
    history: pd.DataFrame
    manifests: dict[str, dict[str, Any]]
    metrics: pd.DataFrame | None


def record_run(
    run: Path, out: Path, *, note: str = "", with_checkpoint: bool = False, trainings: Sequence[str] = ()
) -> Path:
    """Packs a finished run.

    Args:
        run: `runs/<profile>`.
        out: Folder to make; its name is the record's. An earlier record there is replaced.
        note: What a reader should know of it.
        with_checkpoint: Also the weights, as `hgisam_book.recorded.export` makes them.
        trainings: Patterns of further steps whose weights are kept, for later runs to take (`hgisam_book.recorded.reuse`),
            e.g. "classifiers/binary-*".

    Raises:
        InputError: If the run is not finished, its steps are not of one run, or a file is not what its step wrote;
            if a pattern finds no training; if a checkpoint is too large; if `out` holds something else.
    """
    if not is_free(out, listed(out / "record.json", "files")):
        raise InputError(str(out), "something else", "a new folder, or an earlier record", "Name another folder.")
    measured_all = (run / ALL_RESULTS / "manifest.json").is_file()
    manifests = manifests_of_one_run(run, [*STEPS, *([ALL_RESULTS] if measured_all else [])])
    studied = {step for pattern in trainings for step in _trainings_like(run, pattern, manifests)}
    with whole_folder(out) as folder:
        for step in manifests:
            (folder / step).mkdir()
            write_json(folder / step / "manifest.json", portable_manifest(run / step))
        measured = ALL_RESULTS if measured_all else "evaluate"
        for source, target in (
            ("train/train.csv", "train/train.csv"),
            ("evaluate/thresholds.json", "evaluate/thresholds.json"),
            (f"{measured}/summary.json", "summary.json"),
        ):
            shutil.copyfile(_as_written(run, source, manifests), folder / target)
        if "metrics.parquet" in manifests["evaluate"]["outputs"]:
            _pack_metrics(_as_written(run, "evaluate/metrics.parquet", manifests), folder / "evaluate/metrics.parquet")
        if with_checkpoint:
            _pack_checkpoint(run / "train", folder / "train")
        for step in studied:
            _pack_checkpoint(run / step, folder / step)
        write_json(folder / "record.json", _record(out.name, " ".join(note.split()), manifests, folder))
    return out


def read_runs(folder: Path) -> dict[str, RecordedRun]:
    """Name → recorded run, of every folder with a `record.json`; none where there is no such folder.

    Raises:
        InputError: If a file of one is absent, or another than was recorded; names it.
    """
    return {path.parent.name: _read_run(path.parent) for path in sorted(folder.glob("*/record.json"))}


def _as_written(run: Path, name: str, manifests: Manifests) -> Path:
    """A file of a step, once it is known to be what the step wrote."""
    step, file = name.split("/")
    path = run / step / file
    if not path.is_file() or sha256_of(path) != manifests[step]["outputs"][file]:
        raise InputError(str(path), "absent or changed", "the file that the step wrote", "Make the step again.")
    return path


def _pack_metrics(source: Path, target: Path) -> None:
    """The table with numbers in place of the names of patients and studies, unless it is large."""
    table = read_table(source)
    numbered = {column: pd.factorize(table[column])[0] for column in ("patient", "study")}
    table.assign(**numbered).to_parquet(target, index=False, compression="zstd")
    if target.stat().st_size > 1000 * MOST_METRICS_KB:
        log.info("metrics.parquet is left out: more than %d kB", MOST_METRICS_KB)
        target.unlink()


def _trainings_like(run: Path, pattern: str, manifests: Manifests) -> list[str]:
    """Finished trainings of the studies, which must have learned from what the run's own steps read."""
    kind, *rest = Path(pattern).parts or ("",)
    found = sorted(run.glob(f"{pattern}/model.safetensors")) if kind in STUDIES and ".." not in rest else []
    steps = [path.parent.relative_to(run).as_posix() for path in found]
    if not steps:
        expected = f"the name of finished trainings, {'/… or '.join(STUDIES)}/…"
        raise InputError(f"trainings of {run}", repr(pattern), expected, "Name others, or run their notebook first.")
    data = {**manifests["train"]["inputs"], **manifests["maps"]["inputs"]}
    for step in steps:
        read = {name: digest for name, digest in read_manifest(run / step)["inputs"].items() if name in data}
        if not read or any(data[name] != digest for name, digest in read.items()):
            raise InputError(
                f"training {step}", "one made of other data", "one made of the run's", "Run its notebook again."
            )
        if (run / step / RECORDED).is_file():
            raise InputError(
                f"training {step}", "one taken from a record", "one of this run", "Leave it out, or train it."
            )
    return steps


def _pack_checkpoint(trained: Path, target: Path) -> None:
    """Exports a training; its history and manifest, where they are packed already, are among what it holds."""
    shutil.rmtree(target, ignore_errors=True)
    export_checkpoint(trained, target)
    if (size := (target / "model.safetensors").stat().st_size) > 1000 * MOST_CHECKPOINT_KB:
        remedy = "Record it without the checkpoint."
        raise InputError("checkpoint to record", f"{size / 1e6:.1f} MB", f"at most {MOST_CHECKPOINT_KB} kB", remedy)


def _record(name: str, note: str, manifests: Manifests, folder: Path) -> dict[str, Any]:
    trained = manifests["train"]
    on_gpu = bool(trained["hardware"]["gpu"]) and trained["profile"]["compute"]["accelerator"] != "cpu"
    machines = dict.fromkeys(hardware_words(manifest["hardware"]) for manifest in manifests.values())
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        "name": name,
        "note": note,
        "tier": "GPU" if on_gpu else "laptop",
        "profile": trained["profile"]["name"],
        "hardware": "; ".join(machines),
        "durations_s": {step: manifest["duration_s"] for step, manifest in manifests.items()},
        "files": {file: sha256_of(folder / file) for file in files},
    }


def _read_run(folder: Path) -> RecordedRun:
    record = read_json(folder / "record.json")
    for name, wanted in record["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != wanted:
            got = "another content than was recorded" if path.is_file() else "no such file"
            raise InputError(str(path), got, f"SHA-256 {wanted[:12]}…", "Restore it, or record the run again.")
    metrics = folder / "evaluate" / "metrics.parquet"
    return RecordedRun(
        record=record,
        summary=read_json(folder / "summary.json"),
        thresholds=read_json(folder / "evaluate" / "thresholds.json"),
        history=pd.read_csv(folder / "train" / "train.csv"),
        manifests={path.parent.name: read_manifest(path.parent) for path in sorted(folder.glob("*/manifest.json"))},
        metrics=read_table(metrics) if metrics.is_file() else None,
    )

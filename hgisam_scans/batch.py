"""One scan, or a folder of many: at constant memory, in parallel, resumed where a stopped call left off."""

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from data_prep.parallel import run_all
from data_prep.privacy import SALT, public_ids
from data_prep.raw_folder import contents
from hgisam.errors import InputError
from hgisam.models.checkpoint import checkpoint_folder
from hgisam.runs.files import listed, read_json, write_json
from hgisam.runs.folders import check_named, held, is_free, sha256_of, whole_folder
from hgisam.runs.sources import hash_of, package_sources
from hgisam_scans.candidates import Candidate, find_scans
from hgisam_scans.networks import CALIBRATION, THRESHOLDS, Network, load_networks
from hgisam_scans.outputs import (
    FAILED,
    RESULT,
    STATUSES,
    TABLE,
    UNCALIBRATED,
    Wanted,
    write_names,
    write_outputs,
    write_table,
)
from hgisam_scans.report import NOT_COMPARED
from hgisam_scans.segmentation import segment_series
from hgisam_scans.segmented_scan import no_images
from hgisam_scans.series_choice import Choice, by_study, choose_series

log = logging.getLogger(__name__)
LOCK, BATCH = ".lock", "batch.json"


def segment_one(scan: str | Path, out: str | Path, wanted: Wanted) -> str:
    """Segment the chosen series of one scan, or all of its series into a folder each.

    Args:
        scan: As in `hgisam.segment`.
        out: Folder to make; an earlier result there is replaced.
        wanted: Settings and what to write.

    Returns:
        What was found and where it is, in two or three lines.

    Raises:
        InputError: As in `hgisam.segment`; or if `out` holds something else.
    """
    scan, out = Path(scan), Path(out)
    _check_out(scan, out, [*listed(out / RESULT, "files")])
    found = find_scans(scan)
    studies = by_study(found.candidates)
    if len(studies) > 1:
        raise InputError(f"scan {scan}", f"{len(studies)} studies", "one", "Add --batch, or give the folder of one.")
    if wanted.series == "all":
        return segment_folder(scan, out, wanted)
    choice = choose_series(studies[0], wanted.series)[0]._replace(skipped=tuple(found.skipped))
    if wanted.seg and choice.chosen.kind != "DICOM":
        raise no_images(choice.chosen.kind)
    networks = _networks(wanted)
    segmented = segment_series(choice, networks, gate=wanted.gate)
    with whole_folder(out) as folder:
        write_outputs(segmented, folder, wanted, "", "")
    names = [(file, "", "segmented") for file in dict.fromkeys(file for file, _ in segmented.sources)]
    names += [(file, "", f"skipped: {why}") for file, why in segmented.skipped]
    names += [(file, "", "series not chosen") for file in _files_of(studies[0], [choice])]
    result = read_json(out / RESULT)
    return "\n".join((_line(result), f"Report: {out / 'report.html'}", _private(write_names(out, names))))


def segment_folder(scan: str | Path, out: str | Path, wanted: Wanted, *, jobs: int = 1) -> str:
    """Segment every study of a folder, each into a folder of its own under `out`, and write one table of all.

    Finished scans are not segmented again, unless their files, the settings or the weights changed. A scan that cannot
    be segmented has a row with the reason, and costs no other scan anything.

    Args:
        scan: A folder, or a DICOMDIR.
        out: Folder to make or to resume. Its subfolders have public ids; `<out>.files.csv` tells which scan they are.
        wanted: Settings; `series` "all" segments every series of every study.
        jobs: Processes.

    Returns:
        Counts and where the table is, in two lines.

    Raises:
        InputError: If there is no scan, `out` holds something else, or another process works there.
    """
    scan, out = Path(scan), Path(out)
    check_named(out)
    networks = _networks(wanted)  # before the headers of a thousand scans: a mistake here is told at once
    settings = json.dumps([wanted, [_weights(network.folder) for network in networks], hash_of(package_sources())])
    _check_out(scan, out, [BATCH, LOCK, TABLE, *listed(out / BATCH, "scans")])
    with held(out / LOCK):
        _check_out(scan, out, [BATCH, LOCK, TABLE, *listed(out / BATCH, "scans")])
        found = find_scans(scan, jobs)
        name_of = public_ids(out.parent / SALT, public=False)
        names = [(file, "", f"skipped: {why}") for file, why in found.skipped]
        tasks: dict[str, tuple[Choice | str, Candidate]] = {}
        for study in by_study(found.candidates):
            try:
                choices = choose_series(study, wanted.series)
            except InputError as error:
                tasks[name_of(study[0].group)] = str(error), study[0]
                continue
            tasks |= {name_of(choice.chosen.key): (choice, choice.chosen) for choice in choices}
            names += [(file, "", "series not chosen") for file in _files_of(study, choices)]
        for ident, (_, candidate) in tasks.items():
            names += [(file, ident, "in this scan") for file in dict.fromkeys(candidate.study.files)]
        known = {*listed(out / BATCH, "scans")[1:], *tasks}
        write_json(out / BATCH, {"scans": sorted(known)})
        list_of_names = write_names(out, names)
        threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else torch.get_num_threads()
        arguments = [
            (out / ident, choice, wanted, ident, _fingerprint(settings, candidate), threads)
            for ident, (choice, candidate) in tasks.items()
        ]
        missing = [each for each in arguments if not _done(each[0], each[4])]
        if len(missing) < len(arguments):
            log.info("%d of %d scans are finished already", len(arguments) - len(missing), len(arguments))
        run_all(_segment_task, missing, jobs, "scans")
        results = [read_json(out / ident / RESULT) for ident in tasks]
        write_table(results, out)
    counts = Counter(each["status"] for each in results)
    told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status] or status != UNCALIBRATED)
    return f"{len(results)} scans: {told}. Table: {out / TABLE}\n{_private(list_of_names)}"


def _segment_task(
    folder: Path, choice: Choice | str, wanted: Wanted, ident: str, fingerprint: str, threads: int
) -> None:  # fmt: skip
    """Segments one scan of a batch into its folder; a failure becomes its result."""
    torch.set_num_threads(threads)
    with whole_folder(folder) as scratch:
        try:
            if isinstance(choice, str):
                raise InputError("series", choice, "one of the study", "See --series.")
            segmented = segment_series(choice, _networks(wanted), gate=wanted.gate)
            write_outputs(segmented, scratch, wanted, ident, fingerprint)
        except InputError as error:
            failed: dict[str, Any] = {"scan": ident, "status": FAILED, "reason": _without_paths(error, choice)}
            write_json(scratch / RESULT, failed | {"fingerprint": fingerprint, "files": [RESULT]})


def _without_paths(error: InputError, choice: Choice | str) -> str:
    """Reason of a failure for the table, which holds no name of a file."""
    return choice if isinstance(choice, str) else f"{choice.chosen.name}: {error.got}, expected {error.expected}"


@lru_cache(maxsize=1)
def _networks(wanted: Wanted) -> list[Network]:
    """The networks, once per process."""
    return load_networks(wanted.checkpoint, method=wanted.method, threshold=wanted.threshold)


def _weights(folder: Path) -> list[str]:
    """Hashes of what a checkpoint decides."""
    files = (checkpoint_folder(folder) / name for name in ("model.safetensors", "model.json", THRESHOLDS, CALIBRATION))
    return [sha256_of(path) for path in files if path.is_file()]


def _fingerprint(settings: str, candidate: Candidate) -> str:
    """SHA-256 of the settings, and of names, sizes and times of a scan's files."""
    digest = hashlib.sha256(settings.encode())
    for file in dict.fromkeys(candidate.study.files):
        try:
            about = (candidate.raw / file).stat()
            digest.update(f"{file!a} {about.st_size} {about.st_mtime_ns}".encode())
        except OSError:  # it vanished since its header was read: its reader says so
            continue
    return digest.hexdigest()


def _done(folder: Path, fingerprint: str) -> bool:
    """Whether a scan was segmented with the same settings, and its files are there."""
    names = listed(folder / RESULT, "files", fingerprint=fingerprint)
    return bool(names) and all((folder / name).is_file() for name in names)


def _files_of(study: Sequence[Candidate], choices: Sequence[Choice]) -> list[str]:
    """Files of a study's series that were not chosen."""
    chosen = {choice.chosen.key for choice in choices}
    return list(dict.fromkeys(file for each in study if each.key not in chosen for file in each.study.files))


def _check_out(scan: Path, out: Path, made: Sequence[str]) -> None:
    """Refuses an output folder that holds something else, lies in the scan's folder, or cannot be made.

    Raises:
        InputError: If it does.
    """
    check_named(out)
    target, source = out.resolve(), (scan if scan.is_dir() else scan.parent).resolve()
    if scan.is_dir() and (target == source or source in target.parents or target in source.parents):
        raise InputError("--out", f"{out}, which overlaps {scan}", "a folder beside the scan", "Choose another one.")
    above = next(path for path in target.parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        got = f"{above}, {'which cannot be written to' if above.is_dir() else 'a file'}"
        raise InputError(f"folder above --out {out}", got, "a folder that can be written to", "Choose another one.")
    if not is_free(out, made):
        got = f"{contents(out)}, which is no earlier result"
        raise InputError("--out", got, "a new folder or an earlier result", "Choose another one; nothing was changed.")


def _line(result: dict[str, Any]) -> str:
    """Result of a scan in one line."""
    found = f"{result['bleeding_slices']} of {result['slices']} slices predicted to bleed"
    if result["ml"] is None:
        return f"not trusted ({found}): {result['reason']}"
    low, high = result["low_ml"], result["high_ml"]
    interval = "no interval" if low is None else f"the bleed, as calibrated: {low:.1f} to {high:.1f} ml"
    doubt = f"; {UNCALIBRATED}: {NOT_COMPARED}" if result["status"] == UNCALIBRATED else ""
    return f"{result['ml']:.1f} ml in the mask ({interval}{doubt}); {found}. Research only, never for diagnosis."


def _private(path: Path) -> str:
    return f"Names of the files: {path} (keep it on this machine: they may identify patients)"

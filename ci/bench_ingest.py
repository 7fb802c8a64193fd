"""Measure: how fast raw DICOM becomes a prepared set, against bare decoding of the same files, the floor.

python ci/bench_ingest.py --json book/recorded/bench_ingest_NAME.json

Phantoms are written, prepared with one and with two workers, and read back in random order; then a small and a large
cohort of small images are prepared, to see whether memory grows with the number of studies. What two cores of the
machine can bring at best is seen from two preparations with one worker each, side by side.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pydicom

from data_prep import prepare, write_phantom
from data_prep.preparation import code_hash
from data_prep.raw_folder import quiet_readers
from hgisam.data.prepared import open_prepared
from hgisam_book.benchmarks.map_cost import machine
from hgisam_book.benchmarks.training_speed import loader_rate
from hgisam_book.recorded.benchmarks import INGEST, INGEST_TARGETS, judge

SEED, FIELD_MM, LOADER_BATCH, LOADER_S = 11, 220.0, 32, 10.0
RSNA_SLICES = 752_803
SMALL_MATRIX, SMALL_SLICES = 64, 8  # of the cohorts that only memory is measured on
WATCH_S = 0.05


def bare_rate(files: Sequence[Path]) -> float:
    """Slices a second of reading and decoding alone, in one process."""
    start = time.perf_counter()
    with quiet_readers():
        for file in files:
            _ = pydicom.dcmread(file).pixel_array
    return len(files) / (time.perf_counter() - start)


def prepare_apart(raw: Path, out: Path, image_px: int, jobs: int) -> dict[str, float]:
    """Prepares in a process of its own: seconds, and the largest memory that any of its workers held for itself."""
    command = [sys.executable, "-m", "data_prep", "rsna", str(raw), str(out), "--image-px", str(image_px)]
    command += ["--field-of-view-mm", str(FIELD_MM), "--jobs", str(jobs)]
    start, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            most = max(most, _largest_bytes(process.pid))
            time.sleep(WATCH_S)
        if process.returncode:
            sys.exit(f"bench_ingest: {process.stderr.read() if process.stderr else ''}")
    return {"seconds": time.perf_counter() - start, "peak_mb": most / 2**20}


def beside_each_other(raw: Path, folder: Path, image_px: int) -> float:
    """Seconds until two preparations are done that know nothing of each other."""
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: prepare_apart(raw, folder / name, image_px, 1), ("left", "right")))
    return time.perf_counter() - start


def _largest_bytes(pid: int) -> int:
    """Memory that the largest child of a process holds for itself; 0 where it has none."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return max((process.memory_full_info().uss for process in children), default=0)
    except psutil.Error:  # one of them has just ended
        return 0


def clone_studies(source: Path, out: Path, studies: int) -> None:
    """A cohort of `studies`, each the first slices of one of the source's under ids of its own."""
    folder = out / "stage_2_train"
    folder.mkdir(parents=True)
    with quiet_readers():
        images = [pydicom.dcmread(file) for file in sorted((source / "stage_2_train").iterdir())]
        first = [image for image in images if image.PatientID == images[0].PatientID][:SMALL_SLICES]
        lines = ["ID,Label"]
        for study in range(studies):
            for number, image in enumerate(first):
                name = f"ID_{study:06x}{number:03x}"
                image.PatientID, image.StudyInstanceUID = f"ID_{study:08x}", f"ID_{study:010x}"
                image.save_as(folder / f"{name}.dcm", enforce_file_format=False)
                lines += [f"{name}_{label},{study % 2}" for label in ("any", "subdural")]
                lines += [f"{name}_{label},0" for label in ("epidural", "intraparenchymal", "intraventricular")]
                lines.append(f"{name}_subarachnoid,0")
    (out / "stage_2_train.csv").write_text("\n".join(lines) + "\n")


def measure(patients: int, matrix: int, image_px: int, cohorts: Sequence[int], folder: Path) -> dict[str, Any]:
    """The record but for the machine."""
    raw = write_phantom(folder / "raw", layout="rsna", patients=patients, seed=SEED, jobs=2, matrix=matrix)
    files = sorted((raw / "stage_2_train").iterdir())
    bare_rate(files)  # the first pass fills the cache of the disk
    bare = bare_rate(files)
    start = time.process_time()
    prepare("rsna", raw, folder / "here", image_px=image_px, field_of_view_mm=FIELD_MM)
    one = time.process_time() - start  # of all threads, in this process: no start of Python in it
    apart = {jobs: prepare_apart(raw, folder / f"set{jobs}", image_px, jobs) for jobs in (1, 2)}
    beside_s = beside_each_other(raw, folder, image_px)
    prepared = open_prepared(folder / "set2", verify=True)
    count = len(prepared.slices)
    held = prepared.meta["bytes"]["slices.zarr"]
    small = write_phantom(folder / "small", layout="rsna", patients=1, seed=SEED, matrix=SMALL_MATRIX)
    memory = {}
    for studies in cohorts:
        clone_studies(small, folder / f"clones{studies}", studies)
        found = prepare_apart(folder / f"clones{studies}", folder / f"cloned{studies}", SMALL_MATRIX, 2)
        memory[studies] = found["peak_mb"]
    row = {
        "device": "cpu",
        "precision": "–",
        "way": INGEST,
        "batch": "–",
        "slices_per_s": count / one,
        "of_bare": count / one / bare,
        "two_workers": apart[1]["seconds"] / apart[2]["seconds"],
        "peak_mb": apart[2]["peak_mb"],
        "memory_growth": memory[max(cohorts)] / memory[min(cohorts)],
        "read_per_s": loader_rate(prepared, jobs=2, batch=LOADER_BATCH, seconds=LOADER_S),
    }
    return {
        "engine": code_hash(),
        "slices": count,
        "matrix": matrix,
        "image_px": image_px,
        "bare_slices_per_s": bare,
        "two_apart": 2 * apart[1]["seconds"] / beside_s,
        "peak_mb_by_studies": memory,
        "bytes_a_slice": held / count,
        "rsna_gb": held / count * RSNA_SLICES / 1e9,
        "rows": [row],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the record where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of the raw slices")
    parser.add_argument("--image-px", type=int, default=384, help="side of the prepared slices")
    parser.add_argument("--cohorts", type=int, nargs="+", default=[50, 1000], help="studies, to compare their memory")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.patients, given.matrix, given.image_px, given.cohorts, Path(folder))
    record = machine("cpu") | found  # the engine is that of preparation
    print(*(f"{key}: {value}" for key, value in record.items()), sep="\n")
    print(judge([record], INGEST_TARGETS).to_string(index=False))
    if given.json:
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

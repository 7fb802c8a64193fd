"""Benchmark of ingestion: from raw DICOM to a prepared set, compared with bare decoding of the same files.

python ci/bench_ingest.py --json book/recorded/bench_ingest_NAME.json

Phantoms are written, prepared with one and with two workers, and read back in random order. Then a small and a large
cohort of small images are prepared, to measure how memory grows with the number of studies. Two independent
preparations in parallel, with one worker each, show the best speed-up that two cores of the machine allow.
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
from hgisam_book.recorded.benchmarks import INGEST, INGEST_TARGETS, compare_with_targets

SEED, FIELD_MM, LOADER_BATCH, LOADER_S = 11, 220.0, 32, 10.0
RSNA_SLICES = 752_803
SMALL_MATRIX, SMALL_SLICES = 64, 8  # of the cohorts for the memory measurement
POLL_S = 0.05


def bare_rate(files: Sequence[Path]) -> float:
    """Slices per second of reading and decoding alone, in one process."""
    start = time.perf_counter()
    with quiet_readers():
        for file in files:
            _ = pydicom.dcmread(file).pixel_array
    return len(files) / (time.perf_counter() - start)


def prepare_in_process(raw: Path, out: Path, image_px: int, jobs: int) -> dict[str, float]:
    """Prepare in a separate process; returns seconds, and the peak memory in MB of its largest worker."""
    command = [sys.executable, "-m", "data_prep", "rsna", str(raw), str(out), "--image-px", str(image_px)]
    command += ["--field-of-view-mm", str(FIELD_MM), "--jobs", str(jobs)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, _largest_bytes(process.pid))
            time.sleep(POLL_S)
        if process.returncode:
            sys.exit(f"bench_ingest: {process.stderr.read() if process.stderr else ''}")
    return {"seconds": time.perf_counter() - start, "peak_mb": peak / 2**20}


def two_in_parallel(raw: Path, folder: Path, image_px: int) -> float:
    """Seconds for two independent preparations in parallel."""
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: prepare_in_process(raw, folder / name, image_px, 1), ("left", "right")))
    return time.perf_counter() - start


def _largest_bytes(pid: int) -> int:
    """Unique memory (USS) of the largest child of a process in bytes; 0 without children."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return max((process.memory_full_info().uss for process in children), default=0)
    except psutil.Error:  # one of them has just ended
        return 0


def clone_studies(source: Path, out: Path, studies: int) -> None:
    """Write a cohort of `studies` studies, copies of the first slices of one source study under new ids."""
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
    """Measure everything; returns the record without the machine."""
    raw = write_phantom(folder / "raw", layout="rsna", patients=patients, seed=SEED, jobs=2, matrix=matrix)
    files = sorted((raw / "stage_2_train").iterdir())
    bare_rate(files)  # the first pass fills the cache of the disk
    bare = bare_rate(files)
    start = time.process_time()
    prepare("rsna", raw, folder / "here", image_px=image_px, field_of_view_mm=FIELD_MM)
    one = time.process_time() - start  # CPU time of all threads, without the start of Python
    by_jobs = {jobs: prepare_in_process(raw, folder / f"set{jobs}", image_px, jobs) for jobs in (1, 2)}
    parallel_s = two_in_parallel(raw, folder, image_px)
    prepared = open_prepared(folder / "set2", verify=True)
    count = len(prepared.slices)
    stored = prepared.meta["bytes"]["slices.zarr"]
    small = write_phantom(folder / "small", layout="rsna", patients=1, seed=SEED, matrix=SMALL_MATRIX)
    memory = {}
    for studies in cohorts:
        clone_studies(small, folder / f"clones{studies}", studies)
        found = prepare_in_process(folder / f"clones{studies}", folder / f"cloned{studies}", SMALL_MATRIX, 2)
        memory[studies] = found["peak_mb"]
    row = {
        "device": "cpu",
        "precision": "–",
        "way": INGEST,
        "batch": "–",
        "slices_per_s": count / one,
        "of_bare": count / one / bare,
        "two_workers": by_jobs[1]["seconds"] / by_jobs[2]["seconds"],
        "peak_mb": by_jobs[2]["peak_mb"],
        "memory_growth": memory[max(cohorts)] / memory[min(cohorts)],
        "read_per_s": loader_rate(prepared, jobs=2, batch=LOADER_BATCH, seconds=LOADER_S),
    }
    return {
        "engine": code_hash(),
        "slices": count,
        "matrix": matrix,
        "image_px": image_px,
        "bare_slices_per_s": bare,
        "two_apart": 2 * by_jobs[1]["seconds"] / parallel_s,
        "peak_mb_by_studies": memory,
        "bytes_a_slice": stored / count,
        "rsna_gb": stored / count * RSNA_SLICES / 1e9,
        "rows": [row],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and optionally write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--matrix", type=int, default=512, help="rows and columns of the raw slices")
    parser.add_argument("--image-px", type=int, default=384, help="side of the prepared slices")
    parser.add_argument(
        "--cohorts", type=int, nargs="+", default=[50, 1000], help="numbers of studies to compare memory"
    )
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.patients, options.matrix, options.image_px, options.cohorts, Path(folder))
    record = machine("cpu") | found  # the engine hash is that of data_prep
    print(*(f"{key}: {value}" for key, value in record.items()), sep="\n")
    print(compare_with_targets([record], INGEST_TARGETS).to_string(index=False))
    if options.json:
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Many scans: one row each, resumed after a kill, and no scan costs another one."""

import contextlib
import csv
import gc
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest

from data_prep.nifti import open_image
from hgisam.errors import InputError
from hgisam_scans import batch
from hgisam_scans.batch import segment_folder, segment_one
from hgisam_scans.outputs import Wanted

Series = Callable[..., list[Path]]
COUNT = int(os.environ.get("FUZZ", "120"))


@pytest.fixture
def scans(series: Series, head: Any, tmp_path: Path) -> Path:
    """Two DICOM studies, a NIfTI file, and a study that is no head in axial slices."""
    raw = tmp_path / "raw"
    series(raw / "Doe_Jane", uid="1.3.1", study="1.1")
    series(raw / "Roe_Max", uid="1.3.2", study="1.2", PatientID="8")
    series(raw / "side", uid="1.3.3", study="1.4", PatientID="9", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4, -4, 15, 1])), raw / "scan.nii")
    (raw / "scan.nii").rename(raw / "scan")
    return raw


@pytest.fixture(autouse=True)
def dense(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network.folder = Path(batch.__file__).parent  # no weights to hash
    monkeypatch.setattr(batch, "_networks", lambda wanted: [network])
    monkeypatch.setattr(batch, "_weights", lambda folder: [])


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "results.csv").open()))


def test_each_scan_has_a_row_and_a_failure_costs_no_other(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = segment_folder(scans, out, Wanted())
    rows = table(out)
    assert sorted(row["status"] for row in rows) == ["failed", *["not calibrated"] * 3]
    failed = next(row for row in rows if row["status"] == "failed")
    assert "not axial" in failed["reason"]
    assert told.startswith("4 scans: 0 ok, 3 not calibrated, 0 not trusted, 1 failed")
    for path in [path for path in out.rglob("*") if path.suffix in (".csv", ".json", ".html")]:
        assert not {"Doe", "Roe"} & set(path.read_text().replace("_", " ").split()), path
    names = list(csv.DictReader((tmp_path / "out.files.csv").open()))
    assert {row["scan"] for row in names} == {row["scan"] for row in rows}
    assert (tmp_path / "out.files.csv").stat().st_mode & 0o077 == 0


def test_a_second_call_segments_only_what_changed(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, calls = tmp_path / "out", []
    segment = batch.segment_series
    monkeypatch.setattr(
        batch, "segment_series", lambda choice, *rest, **o: calls.append(1) or segment(choice, *rest, **o)
    )
    segment_folder(scans, out, Wanted())
    assert len(calls) == 4
    before = table(out)
    segment_folder(scans, out, Wanted())
    assert len(calls) == 4
    assert table(out) == before
    nib.save(nib.Nifti1Image(np.full((64, 64, 8), 30, np.int16), np.diag([-4, -4, 15, 1])), scans / "scan.nii")
    (scans / "scan.nii").rename(scans / "scan")
    segment_folder(scans, out, Wanted())
    assert len(calls) == 5
    segment_folder(scans, out, Wanted(gate=False))
    assert len(calls) == 9


KILLED = """
import sys, time
from pathlib import Path
from hgisam_scans import batch
from hgisam_scans.outputs import Wanted
from tests.hgisam_scans.conftest import DenseNetwork
network = DenseNetwork()
batch._networks, batch._weights = lambda wanted: [network], lambda folder: []
segment = batch.segment_series
def slow(*arguments, **options):
    time.sleep(1.0)
    return segment(*arguments, **options)
batch.segment_series = slow
batch.segment_folder(sys.argv[1], sys.argv[2], Wanted())
"""


def test_a_kill_in_the_middle_loses_one_scan_at_most(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(scans), str(out)]
    started = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    for _ in range(3000):  # a busy machine starts slowly
        if list(out.glob("*/result.json")):
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGKILL)
    started.wait()
    whole = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert 0 < len(whole) < 4
    assert not (out / "results.csv").exists()
    segment_folder(scans, out, Wanted())
    assert len(table(out)) == 4
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]


def test_an_output_folder_with_something_else_is_left_alone(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    for call in (segment_folder, segment_one):
        with pytest.raises(InputError, match="no earlier result"):
            call(scans, tmp_path / "mine", Wanted())
        with pytest.raises(InputError, match="overlaps"):
            call(scans, scans / "out", Wanted())
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_one_scan_is_replaced_by_the_next_call(series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw")
    for _ in range(2):
        told = segment_one(tmp_path / "raw", tmp_path / "out", Wanted())
    assert told.splitlines()[1] == f"Report: {tmp_path / 'out' / 'report.html'}"
    assert json.loads((tmp_path / "out" / "result.json").read_text())["slices"] == 8


def test_all_series_of_a_study_have_a_folder_each(series: Series, tmp_path: Path) -> None:
    series(tmp_path / "raw" / "a", uid="1.3.1", number=1)
    series(tmp_path / "raw" / "b", uid="1.3.2", number=2)
    segment_one(tmp_path / "raw", tmp_path / "out", Wanted(series="all"))
    assert [row["series"] for row in table(tmp_path / "out")] == ["1", "2"]


def test_a_full_disk_leaves_nothing_that_looks_whole(scans: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=400k", small_disk], check=True)
    with pytest.raises(OSError, match="No space left"):
        segment_folder(scans, small_disk / "out", Wanted())
    assert not list(small_disk.glob("out/*/result.json"))
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    segment_folder(scans, small_disk / "out", Wanted())
    assert len(table(small_disk / "out")) == 4


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_damaged_header_is_one_line_or_a_result(kind: str, scans: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = tmp_path / "one"
    if kind == "dicom":
        shutil.copytree(scans / "Doe_Jane", raw)
        file = sorted(raw.iterdir())[3]
    else:
        raw.mkdir()
        file = raw / "scan"
        shutil.copy(scans / "scan", file)
    content, refused = file.read_bytes(), list[str]()
    header = len(content) - 2 * 64 * 64 if kind == "dicom" else 352
    for number in range(COUNT):
        damaged = bytearray(content)
        for place in rng.integers(header, size=1 + number % 6):
            damaged[place] = int(rng.integers(256))
        file.write_bytes(bytes(damaged) if number % 5 else content[: int(rng.integers(len(content)))])
        try:
            segment_one(raw, tmp_path / "out", Wanted(seg=kind == "dicom"))
        except InputError as error:
            refused.append(str(error))
            continue
        mask = nib.load(tmp_path / "out" / "mask.nii.gz")
        if kind == "dicom":  # never a mask of another grid
            assert mask.shape[:2] == (64, 64)
        else:
            with open_image(file) as scan:
                assert mask.shape == scan.shape
                np.testing.assert_array_equal(mask.affine, scan.affine)
    assert len(refused) < COUNT
    assert not [line for line in refused if "\n" in line]


def test_memory_does_not_grow_with_the_number_of_scans(
    head: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scan left in memory would be 0.25 MB for its HU on the prepared grid alone."""
    for number in range(14):
        voxels = head[0].transpose(2, 1, 0) + np.int16(number % 3)
        (tmp_path / "raw").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.diag([-4, -4, 15, 1])), tmp_path / "raw" / f"{number}.nii")
    task, held = batch._segment_task, list[int]()

    def watched(*arguments: Any) -> None:
        task(*arguments)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])

    monkeypatch.setattr(batch, "_segment_task", watched)
    tracemalloc.start()
    try:
        segment_folder(tmp_path / "raw", tmp_path / "out", Wanted())
    finally:
        tracemalloc.stop()
    assert len(held) == 14
    assert held[-1] - held[3] < 200_000


def test_a_kill_of_two_processes_stops_both_and_is_resumed(head: Any, tmp_path: Path) -> None:
    """With the shipped network, as on the command line."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for number in range(8):
        nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4, -4, 15, 1])), raw / f"{number}.nii")
    command = [sys.executable, "-m", "hgisam", "segment", str(raw), "--out", str(out), "--batch", "--jobs", "2"]
    started = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    for _ in range(6000):  # a busy machine starts slowly
        if list(out.glob("*/result.json")):
            break
        time.sleep(0.1)
    workers = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(signal.SIGKILL)
    started.wait()
    psutil.wait_procs(workers, timeout=60)
    whole = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
    assert 0 < len(whole) < 8
    assert not [process for process in workers if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("8 scans: ")
    assert len(table(out)) == 8
    assert {path: path.stat().st_mtime_ns for path in whole} == whole


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_terminal_has_a_progress_bar(jobs: int, tmp_path: Path) -> None:
    code = f"from data_prep.parallel import run_all; run_all(abs, [(-1,), (2,), (3,)], {jobs}, 'scans')"
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, 80))
    subprocess.run([sys.executable, "-c", f"if __name__ == '__main__': {code}"], stderr=child, check=True, cwd=tmp_path)
    os.close(child)
    shown = ""
    with contextlib.suppress(OSError), os.fdopen(parent) as terminal:  # it ends with an error
        for line in terminal:
            shown += line
    assert "scans" in shown
    assert "100%" in shown

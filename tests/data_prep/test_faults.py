"""Killed processes, full disks, vanished files, and invalid headers."""

import gzip
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from data_prep import dicom_frames, nifti
from data_prep import study as study_module
from data_prep.__main__ import app
from data_prep.preparation import prepare
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import sha256_of

SMALL: dict[str, Any] = {"image_px": 32, "field_of_view_mm": 240.0, "folds": 2, "validation_fraction": 0.5}
Report = Callable[[Path], dict[str, Any]]


def test_killed_ten_times_at_random_the_result_is_the_same(ct_raw: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    whole = sha256_of(prepare("ct-ich", ct_raw, tmp_path / "a" / "out", **SMALL))
    undisturbed = time.monotonic() - started
    out = tmp_path / "b" / "out"
    rng = np.random.default_rng()
    context = multiprocessing.get_context("forkserver")  # threads survive no fork
    context.set_forkserver_preload(["data_prep.preparation"])
    killed = 0
    for _ in range(10):
        process = context.Process(target=prepare, args=("ct-ich", ct_raw, out), kwargs=SMALL)
        process.start()
        process.join(rng.uniform(0, undisturbed))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            killed += 1
        if out.exists() and rng.random() < 0.5:  # complete already: the next one starts from scratch
            open_prepared(out, verify=True)
            shutil.rmtree(out)
    assert killed
    prepare("ct-ich", ct_raw, out, **SMALL)
    assert sha256_of(out) == whole
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing is left beside it


def test_killed_while_an_older_set_is_replaced(ct_raw: Path, tmp_path: Path) -> None:
    out = prepare("ct-ich", ct_raw, tmp_path / "sets" / "out", **(SMALL | {"image_px": 40}))
    left = out.with_name(".out.999999999.old")  # a process that died between two renames
    out.rename(left)
    prepare("ct-ich", ct_raw, out, **SMALL)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_file_that_vanishes_after_it_was_listed_is_named(
    rsna_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report_of: Report
) -> None:
    real = study_module.rsna.read_study
    gone: list[str] = []

    def vanish(raw: Path, study: Any) -> Any:
        (raw / study.files[0]).unlink()
        gone.append(study.files[0])
        return real(raw, study)

    monkeypatch.setattr(study_module.rsna, "read_study", vanish)
    skipped = report_of(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL))["skipped"]
    assert sorted(entry["file"] for entry in skipped) == sorted(gone)
    assert {entry["reason"] for entry in skipped} == {"cannot be read: No such file or directory"}


def test_a_truncated_gzip_and_a_wrong_header_are_named(
    tmp_path: Path, head: Any, report_of: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "scans"
    raw.mkdir()
    for name in ("a", "b", "c"):
        nib.save(nib.Nifti1Image(head[0].transpose(2, 1, 0), np.diag([-4.0, -4.0, 15.0, 1.0])), raw / f"{name}.nii.gz")
    content = (raw / "b.nii.gz").read_bytes()
    (raw / "b.nii.gz").write_bytes(content[: len(content) // 2])
    header = bytearray(gzip.decompress(content))
    header[40:56] = np.array([3, 8000, 8000, 8000, 1, 1, 1, 1], "<i2").tobytes()  # dim: a terabyte
    (raw / "c.nii.gz").write_bytes(gzip.compress(bytes(header)))
    report = report_of(prepare("folder", raw, tmp_path / "out", **SMALL))
    assert sorted(entry["reason"] for entry in report["skipped"]) == [
        "512000000000 voxels, more than 536870912", "a truncated or broken file"
    ]  # fmt: skip
    assert nifti.MAX_VOXELS == 536870912


def test_a_dicom_that_claims_too_much_is_named(
    rsna_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report_of: Report
) -> None:
    monkeypatch.setattr(dicom_frames, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(InputError, match="more than 4095 pixels"):
        prepare("rsna", rsna_raw, tmp_path / "out", **SMALL)


def test_a_set_that_lost_or_changed_a_file_is_refused(ct_raw: Path, tmp_path: Path) -> None:
    out = prepare("ct-ich", ct_raw, tmp_path / "out", **SMALL)
    shard = next(
        path for path in (out / "slices.zarr" / "hu").rglob("*") if path.is_file() and path.name != "zarr.json"
    )
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"slices\.zarr: got \d+ bytes"):
        open_prepared(out)
    shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match="another content than was written"):
        open_prepared(out, verify=True)
    shard.unlink()
    with pytest.raises(InputError, match="bytes"):
        open_prepared(out)


def test_a_broken_link_among_the_images_is_no_image(rsna_raw: Path, tmp_path: Path, report_of: Report) -> None:
    (rsna_raw / "stage_2_train" / "ID_000000000.dcm").symlink_to(tmp_path / "nowhere")
    assert report_of(prepare("rsna", rsna_raw, tmp_path / "out", **SMALL))["files"] == 32


def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on(
    ct_raw: Path, small_disk: Path, tmp_path: Path
) -> None:
    """Whatever is being written: nothing incomplete is left, and on a larger disk the result is the same."""
    settings: dict[str, Any] = {**SMALL, "image_px": 128}
    whole = sha256_of(prepare("ct-ich", ct_raw, tmp_path / "a" / "out", **settings))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    out, full = small_disk / "out", 0
    for size_k in range(16, 4096, 16):
        subprocess.run(["mount", "-o", f"remount,size={size_k}k", small_disk], check=True)
        result = CliRunner().invoke(app, ["ct-ich", str(ct_raw), str(out), *options])
        if result.exit_code == 0:
            break
        full += 1
        assert result.exit_code == 1
        assert "Stopped: the disk is full" in result.output, result.output
        assert not out.exists()
    assert full > 3
    assert sha256_of(out) == whole
    assert sorted(path.name for path in small_disk.iterdir()) == ["out", "out.files.csv"]


@contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """A folder of an ordinary user, who may not read everything."""
    with tempfile.TemporaryDirectory() as folder:
        user = os.geteuid()
        if user == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_missing_permissions_are_named(write_ct_ich: Callable[..., Path], report_of: Report) -> None:
    with as_ordinary_user() as folder:
        raw = write_ct_ich(folder / "raw")
        scan = raw / "ct_scans" / "049.nii"
        scan.chmod(0)
        report = report_of(prepare("ct-ich", raw, folder / "out", **SMALL))
        assert report["skipped"] == [{"file": "ct_scans/049.nii", "reason": "cannot be read: Permission denied"}]
        scan.parent.chmod(0)
        with pytest.raises(InputError, match=r"folder ct_scans of .*: got Permission denied"):
            prepare("folder", raw, folder / "other", **SMALL)
        scan.parent.chmod(0o700)
        folder.chmod(0o500)
        result = CliRunner().invoke(app, ["ct-ich", str(raw), str(folder / "another")])
        assert result.exit_code == 2
        assert "got “Permission denied”" in result.output
        folder.chmod(0o700)

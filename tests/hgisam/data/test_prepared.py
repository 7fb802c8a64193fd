"""The prepared data set: written and read back, and errors for broken ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hgisam.data.labels import LABELS, MASK_VALUES
from hgisam.data.prepared import by_fold, open_prepared
from hgisam.errors import InputError
from hgisam.runs.folders import sha256_of, whole_folder
from tests.conftest import make_prepared


def test_round_trip_across_shards(tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set", patients=25), verify=True)  # 150 slices, three shards
    assert data.hu.shape == data.brain.shape == data.mask.shape == (150, 32, 32)
    assert set(np.unique(data.mask[:])) == {0, MASK_VALUES["unspecified"]}
    bleeding = (data.mask[:] > 0).any(axis=(1, 2))
    assert (bleeding == (data.slices["any"] == 1)).all()
    assert set(data.rows("train")).isdisjoint(data.rows("val"))
    assert data.meta["counts"]["slices"] == 150
    assert list(data.slices[list(LABELS)].sum()) == [data.meta["counts"][label] for label in LABELS]


def test_paths_may_be_strings(tmp_path: Path) -> None:
    path = make_prepared(f"{tmp_path}/set")  # which write_prepared gets and returns
    assert path == tmp_path / "set"
    assert open_prepared(str(path)).path == path
    assert open_prepared(str(path)).hu[:].shape == open_prepared(path).hu[:].shape


def test_writing_is_reproducible_byte_by_byte(tmp_path: Path) -> None:
    a, b = (make_prepared(tmp_path / name) for name in "ab")
    assert sha256_of(a / "slices.parquet") == sha256_of(b / "slices.parquet")
    assert open_prepared(a).fingerprint == open_prepared(b).fingerprint


def test_a_broken_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_prepared(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no dataset\.json"):
        open_prepared(tmp_path / "empty")
    path = make_prepared(tmp_path / "set")
    meta = json.loads((path / "dataset.json").read_text())
    chunk = next(p for p in (path / "slices.zarr" / "hu").rglob("*") if p.is_file() and p.name != "zarr.json")
    content = chunk.read_bytes()
    chunk.write_bytes(content[:-1])
    with pytest.raises(InputError, match="bytes, expected"):
        open_prepared(path)
    chunk.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="another content"):
        open_prepared(path, verify=True)
    chunk.write_bytes(content)
    table = path / "slices.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + b"x")
    with pytest.raises(InputError, match="another content"):
        open_prepared(path)
    table.write_bytes(whole)
    for change, message in [
        ({"format_version": 99}, "format"),
        ({"hashes": None}, "hashes: Input should be a valid dictionary"),
        ({"bytes": 0}, "bytes: Input should be a valid dictionary"),
        ({"hashes": {}}, "none of slices.parquet, slices.zarr"),
        ({"counts": [1]}, "counts: Input"),
        ({"counts": {"slices": 1}}, r"counts\.patients: Field required"),
        ({"size_px": "64 px"}, "size_px: Input"),
    ]:
        (path / "dataset.json").write_text(json.dumps(meta | change))
        with pytest.raises(InputError, match=message):
            open_prepared(path)


def test_a_patient_in_two_splits_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    import pandas as pd

    from data_prep.prepared_set import write_prepared

    data = open_prepared(make_prepared(tmp_path / "set"))
    slices = data.slices.copy()
    slices.loc[0, "split"] = "test"
    info = {"name": "x", "source": "x", "licence": "x", "skipped": []}
    with pytest.raises(InputError, match="several splits"):
        write_prepared(tmp_path / "bad", slices=slices, blocks=[], size_px=32, with_mask=False, info=info)
    with pytest.raises(ValueError, match="blocks held 0"):
        write_prepared(tmp_path / "bad", slices=data.slices, blocks=[], size_px=32, with_mask=False, info=info)
    assert isinstance(slices, pd.DataFrame)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_one_fold_is_for_test_the_next_for_validation(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    for fold in range(4):
        split = by_fold(prepared, fold)
        folds = {name: set(split.slices["fold"][split.slices["split"] == name]) for name in ("train", "val", "test")}
        others = set(range(4)) - {fold, (fold + 1) % 4}
        assert folds == {"test": {fold}, "val": {(fold + 1) % 4}, "train": others}
        assert (split.slices.groupby("patient")["split"].nunique() == 1).all()
    assert set(prepared.slices["split"]) == {"train", "val"}  # the input is unchanged
    with pytest.raises(InputError, match=r"train\.fold: got 4"):
        by_fold(prepared, 4)
    with pytest.raises(InputError, match="three or more"):
        by_fold(open_prepared(make_prepared(tmp_path / "small", patients=4)), 0)


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    stale, other = tmp_path / f".out.{gone.stdout.strip()}.tmp", tmp_path / f".out.{os.getppid()}.tmp"
    for folder in (stale, other):
        folder.mkdir()
        (folder / "half").touch()
    with whole_folder(tmp_path / "out") as scratch:
        (scratch / "whole").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other.name, "out"])  # its process is running


def test_a_damaged_shard_is_an_error_of_one_line(tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "set"))
    shard = next(p for p in data.hu.path.rglob("*") if p.is_file() and p.name != "zarr.json")
    content = shard.read_bytes()
    shard.write_bytes(content[:-60] + bytes(60))  # of the same size, so that it opens
    with pytest.raises(InputError, match=r"slices\.zarr/hu: got damaged .* Run `python -m data_prep` again"):
        open_prepared(tmp_path / "set").hu[:]

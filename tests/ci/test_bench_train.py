import json
from pathlib import Path

import bench_train
import numpy as np
import pytest

from hgisam.config.profile import Profile, load_profile
from hgisam.data.batches import Batches, balanced_sample
from hgisam.models.networks import build_network
from hgisam_book.recorded.benchmarks import TRAINING_TARGETS, compare_with_targets, read_records
from tests.conftest import TINY

TINY_OPTIONS = [option for override in TINY for option in ("--set", override)]


def test_a_tiny_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_train, "READING_S", 0.1)
    out = tmp_path / "bench_train_tiny.json"
    arguments = ["--profile", "smoke", *TINY_OPTIONS, "--jobs", "1", "--repeat", "1", "--json", str(out)]
    bench_train.main(arguments)
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    assert read_records(tmp_path, "train") == {out.name: found}
    assert read_records(tmp_path) == {}
    assert "| cuda | – | not run |" in text
    assert found["model"] == "swin (patch 2, window 2, 16 channels, depths 2-2-2-2, heads 1-2-2-4)"
    assert found["img_size"] == 32
    assert found["parameters"] == sum(p.numel() for p in build_network(load_profile("smoke", TINY)).parameters())
    assert found["loader"]["jobs"] == 1
    assert found["loader"]["slices_per_s"] > 0
    assert [row["way"] for row in found["rows"]] == [*bench_train.USUAL, "not run"]
    rows = {row["way"]: row for row in found["rows"][:-1]}
    assert {way: row["batch"] for way, row in rows.items() if row.get("batch") != 8} == {"half the batch": 4}
    assert all(row["images_per_s"] > 0 and row["peak_mb"] > 0 for row in rows.values())
    assert rows["checkpointing"]["peak_mb"] < rows["as it is"]["peak_mb"]
    verdicts = compare_with_targets([found], TRAINING_TARGETS)["verdict"].tolist()
    assert "not run" not in verdicts[:2]
    assert verdicts[2:] == ["not run"] * 3


def test_the_set_has_eight_batches_per_epoch(tmp_path: Path, tiny: Profile) -> None:
    data = bench_train.make_set(tmp_path / "set", tiny)
    rows, bleeds = data.rows("train"), data.slices["any"].to_numpy() == 1
    assert (bleeds == (data.mask[:] > 0).any(axis=(1, 2))).all()
    assert len(Batches(balanced_sample(rows, bleeds[rows], np.random.default_rng(0)), tiny.train.batch_size)) == 8
    assert set(bleeds[data.rows("val")]) == {False, True}


def test_every_variant_is_different() -> None:
    half = [*TINY, "compute.precision=bf16-mixed"]
    profile = load_profile("smoke", half)
    changed = [load_profile("smoke", [*half, *bench_train.overrides_of(way, profile)]) for way in bench_train.WAYS]
    assert changed[0] == profile
    assert len({settings.model_dump_json() for settings in changed}) == len(bench_train.WAYS)


def test_a_user_error_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"^bench_train: profile key train\.bacth_size"):
        bench_train.main(["--profile", "smoke", "--set", "train.bacth_size=8"])

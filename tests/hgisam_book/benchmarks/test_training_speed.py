"""Throughput of the training loop and of reading."""

from pathlib import Path

import pytest

from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.training.setup import set_up_training
from hgisam_book.benchmarks.training_speed import few_batches, loader_rate, measure_training
from tests.conftest import TINY, make_prepared


@pytest.mark.usefixtures("bfloat16")
def test_throughput_of_several_variants(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=12))
    ways = [[], ["compute.precision=bf16-mixed"], ["train.batch_size=4"], ["train.accumulate=2"]]
    rows = measure_training("smoke", prepared, ways, overrides=TINY, repeat=1)
    assert [row["way"] for row in rows] == ["default", *[way[0] for way in ways[1:]]]
    assert [row["precision"] for row in rows] == ["32-true", "bf16-mixed", "32-true", "32-true"]
    assert [row["batch"] for row in rows] == [8, 8, 4, 8]
    for row in rows:
        assert row["of_bare"] == pytest.approx(row["images_per_s"] / row["bare_images_per_s"])
        assert row["images_per_s"] > 0
        assert row["peak_mb"] > 0
    assert rows[2]["peak_mb"] < rows[0]["peak_mb"]  # half the activations
    assert rows[3]["peak_mb"] < rows[0]["peak_mb"]  # likewise


def test_few_batches_of_both_classes_in_memory(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=24))
    profile = load_profile("smoke", TINY)
    few = few_batches(prepared, 2, batch_size=profile.train.batch_size, seed=profile.seed)
    counted = few.slices.groupby(["split", "any"]).size()
    assert counted.to_dict() == {("train", 0): 8, ("train", 1): 8, ("val", 0): 4, ("val", 1): 4}
    assert (few.mask.max(axis=(1, 2)) > 0).tolist() == few.slices["any"].tolist()  # arrays and table belong together
    assert few.fingerprint != prepared.fingerprint
    assert few_batches(prepared, 2, batch_size=profile.train.batch_size, seed=profile.seed).slices.equals(few.slices)
    assert (
        few.fingerprint != few_batches(prepared, 1, batch_size=profile.train.batch_size, seed=profile.seed).fingerprint
    )
    assert len(set_up_training(profile, few, tmp_path).epoch_batches(0)) == 2


def test_reading_from_disk(tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    assert loader_rate(prepared, jobs=1, batch=4, seconds=0.2) > 0
    with pytest.raises(InputError, match="more batches than jobs"):
        loader_rate(prepared, jobs=500, batch=4, seconds=0.2)

"""Pseudo-masks, self-training and the refined score maps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from hgisam.config.profile import load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.inference.extraction import methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.pipeline import map_step, train_step
from hgisam.runs.files import read_json
from hgisam_book.studies import refinement
from tests.conftest import TINY, make_prepared

SMALL = "study.trainings.hgi_sam_refined={task: segmentation, train.monitor: dice, train.augment.hide: 0}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with trained classifier, maps and refinement."""
    runs = tmp_path_factory.mktemp("runs")
    for name, splits in (("rsna", ("train", "val")), ("ct-ich", ("test", "val"))):
        make_prepared(runs / "smoke" / "prepared" / name, patients=16, splits=splits, seed=len(name))
    profile = load_profile("smoke", [*TINY, SMALL, "segmenter.channels=[8,16]"])
    train_step(profile, runs)
    map_step(profile, runs)
    refinement.refine_step(profile, runs)
    return runs / "smoke"


def test_pseudo_masks_are_empty_where_nothing_bleeds_and_dense_where_they_are_not(run: Path) -> None:
    pseudo = open_prepared(run / "refined" / "pseudo" / "dataset")
    bleeds = pseudo.slices["any"].to_numpy() == 1
    masks, hu = pseudo.mask[:] > 0, pseudo.hu[:]
    assert bleeds.sum() == (~bleeds).sum() > 0
    assert not masks[~bleeds].any()
    assert masks[bleeds].any(axis=(1, 2)).mean() > 0.5
    assert hu[masks].mean() > hu[(pseudo.brain[:] > 0) & ~masks].mean() + 15


def test_no_annotated_mask_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_prepared(run / "prepared" / "ct-ich")
    before = zarr.open_group(run / "refined" / "maps" / "maps.zarr", mode="r")["hgi_sam_density"][:]  # type: ignore[index]
    blind = type(data)(**{**vars(data), "mask": None})
    folder = run / "again"
    folder.mkdir()
    checkpoint = refinement.load_checkpoint(run / "refined" / "self_trained")
    threshold_hu = read_json(run / "refined" / "pseudo" / "density.json")["threshold_hu"]
    profile = load_profile("smoke", [*TINY, SMALL, "segmenter.channels=[8,16]"])
    refinement.refine(SlicePredictor.of(checkpoint, profile), blind, run / "maps" / "maps.zarr", threshold_hu, folder)
    again = zarr.open_group(folder / "maps.zarr", mode="r")["hgi_sam_density"][:]  # type: ignore[index]
    assert np.array_equal(before, again)


def test_the_parts_are_in_range_and_the_refined_is_their_mean(run: Path) -> None:
    group = zarr.open_group(run / "refined" / "maps" / "maps.zarr", mode="r")
    parts = {name: np.asarray(group[name][:], np.float32) for name in refinement.PARTS}  # type: ignore[index]
    assert set(parts) == set(refinement.PARTS)
    assert all(0 <= p.min() <= p.max() <= 1 for p in parts.values())
    assert (parts["hgi_sam_density"] <= parts["density_alone"]).all()
    assert (parts["hgi_sam_density"] < parts["density_alone"]).any()
    mean = (parts["hgi_sam_density"] + parts["hgi_sam_self_trained"]) / 2
    assert np.abs(mean - parts["hgi_sam_refined"]).max() < 2e-3


def test_slices_are_sampled_by_patient_and_balanced(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"patient": np.repeat([f"p{i}" for i in range(20)], 10), "any": np.tile([1, 0] * 5, 20)})
    monkeypatch.setattr(refinement, "MAX_BLEEDING", 12)
    chosen = refinement.choose_slices(table, seed=1)
    assert table["any"].iloc[chosen].sum() == 12
    assert len(chosen) == 24
    assert table["patient"].iloc[chosen].nunique() <= 3
    assert refinement.choose_slices(table, seed=1).tolist() == chosen.tolist()
    assert refinement.choose_slices(table, seed=2).tolist() != chosen.tolist()


def test_slices_of_one_class_are_refused(tmp_path: Path, run: Path) -> None:
    data = open_prepared(run / "prepared" / "rsna")
    quiet = type(data)(**{**vars(data), "slices": data.slices.assign(any=0)})
    checkpoint = refinement.load_checkpoint(run / "train")
    profile = load_profile("smoke", TINY)
    method = methods_of(profile.maps, ["hgi_sam"])["hgi_sam"]
    with pytest.raises(InputError, match="with and without a bleed"):
        refinement.write_pseudo_masks(
            SlicePredictor.of(checkpoint, profile), method, quiet, tmp_path, seed=profile.seed
        )

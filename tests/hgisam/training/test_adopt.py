"""A trained network in place of a training."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.models.checkpoint import load_checkpoint
from hgisam.training.adopt import adopt, validate_checkpoint
from hgisam.training.loop import fit
from tests.conftest import TINY, make_prepared


def test_a_checkpoint_replaces_the_training(tmp_path: Path, tiny: Profile) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set"))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    fit(tiny, prepared, first)
    taken = load_profile("smoke", [*TINY, f"train.checkpoint={first}", "train.epochs=7"])
    adopt(taken, prepared, second)
    tables = [pd.read_parquet(folder / "predictions.parquet") for folder in (first, second)]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)
    assert (second / "train.csv").read_text() == (first / "train.csv").read_text()
    with pytest.raises(InputError, match="another model"):
        adopt(load_profile("smoke", [*TINY, f"train.checkpoint={first}", "model.drop_path=0.3"]), prepared, second)
    with pytest.raises(InputError, match="nowhere"):
        adopt(load_profile("smoke", [*TINY, "train.checkpoint=nowhere"]), prepared, second)


def test_annotated_slices_alone_give_the_same_dice(tmp_path: Path) -> None:
    """Also where slices without a label have a mask, as those that only a ball around a bleed reaches."""
    profile = load_profile("smoke", [*TINY, "task=segmentation", "train.monitor=dice", "segmenter.channels=[8,16,32]"])
    prepared = open_prepared(make_prepared(tmp_path / "set", patients=16))
    fit(profile, prepared, tmp_path)
    slices = prepared.slices
    unlabelled = slices.assign(any=slices["any"].where(slices["slice_index"] != 2, 0))  # of two annotated slices each
    prepared = replace(prepared, slices=unlabelled)
    trained = load_checkpoint(tmp_path)
    (every, of_all), (few, of_annotated) = (
        validate_checkpoint(trained, profile, prepared, annotated=annotated) for annotated in (False, True)
    )
    assert of_annotated["val_dice"] == pytest.approx(of_all["val_dice"], abs=1e-6)
    assert len(few) == every["dice"].notna().sum() == 2 * few["patient"].nunique()
    assert (few["any"] == 0).any()

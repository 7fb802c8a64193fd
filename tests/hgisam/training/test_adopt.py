"""A trained network in place of a training."""

from pathlib import Path

import pandas as pd
import pytest

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.training.adopt import adopt
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

"""Maps and scores of a whole set: block by block, from one forward pass, the same in any precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torch import nn

from hgisam.config.profile import Profile, load_profile
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.errors import InputError
from hgisam.inference import extraction
from hgisam.inference.extraction import extract_maps, methods_of
from hgisam.inference.predictor import SlicePredictor
from hgisam.maps import METHODS
from hgisam.models.checkpoint import Checkpoint
from tests.conftest import TINY, make_prepared, untrained


class Logged:
    """An array that remembers which of its slices were read."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.read = array, array.shape, []

    def __getitem__(self, rows: slice) -> Any:
        self.read.append((rows.start, rows.stop))
        return self.array[rows]


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    """48 slices."""
    return open_prepared(make_prepared(tmp_path / "set"))


@pytest.fixture
def checkpoint(tiny: Profile, tiny_model: nn.Module) -> Checkpoint:
    """Random weights."""
    return untrained(tiny_model, tiny)


def test_one_block_at_a_time_and_one_forward_pass_per_method(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "BLOCK", 20)
    calls: list[int] = []
    checkpoint.model.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    hu, brain = Logged(prepared.hu), Logged(prepared.brain)
    predictor, methods = SlicePredictor.of(checkpoint, tiny), methods_of(tiny.maps)
    extract_maps(predictor, methods, replace(prepared, hu=hu, brain=brain), tmp_path)
    assert hu.read == brain.read == [(0, 20), (20, 40), (40, 48)]
    assert calls == (3 * [8, 8, 4]) * 2 + 3 * [8]  # batches of 8, three methods, no pass for the scores alone
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "set") == ["maps.zarr", "scores.parquet"]
    maps, scores = zarr.open_group(tmp_path / "maps.zarr", mode="r"), pd.read_parquet(tmp_path / "scores.parquet")
    assert list(scores.columns) == ["row", "score"]
    images = checkpoint.preprocess(
        torch.from_numpy(prepared.hu[:]).float(), torch.from_numpy(prepared.brain[:]).float() >= 0.5
    )
    np.testing.assert_allclose(scores["score"], checkpoint.probability(images).detach().numpy(), atol=1e-5)
    for name, method in methods.items():
        assert maps[name].dtype == np.float16
        assert maps[name].chunks == (20, 32, 32)
        expected = method(checkpoint.model, images, checkpoint.task.bleeding).numpy()
        np.testing.assert_allclose(maps[name][:], expected, atol=2e-3)


def test_progress_is_small_and_holds_only_whole_blocks(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "BLOCK", 16)
    real, calls = SlicePredictor.maps, []

    def dies(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(SlicePredictor, "maps", dies)
    predictor, methods = SlicePredictor.of(checkpoint, tiny), methods_of(tiny.maps)
    with pytest.raises(KeyboardInterrupt):
        extract_maps(predictor, methods, prepared, tmp_path)
    scores = zarr.open_array(tmp_path / extraction.PROGRESS, mode="r")[:]
    assert np.isfinite(scores).tolist() == [True] * 16 + [False] * 32
    extract_maps(predictor, methods, prepared, tmp_path)
    assert len(calls) == 6 + 2 * 3
    assert not (tmp_path / extraction.PROGRESS).exists()


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.filterwarnings("ignore:You passed:UserWarning")  # Fabric would rather have bfloat16 on a CPU
@pytest.mark.parametrize(("precision", "atol"), [("bf16-mixed", 0.1), ("16-mixed", 0.02)])
def test_precision_of_the_profile(
    checkpoint: Checkpoint, tiny: Profile, prepared: PreparedDataset, tmp_path: Path, precision: str, atol: float
) -> None:
    half = load_profile("smoke", [*TINY, f"compute.precision={precision}", "maps.methods=[hgi_sam]"])
    for name, profile in (("whole", tiny), ("half", half)):
        (tmp_path / name).mkdir()
        extract_maps(SlicePredictor.of(checkpoint, profile), methods_of(profile.maps), prepared, tmp_path / name)
    whole, less = (zarr.open_group(tmp_path / n / "maps.zarr", mode="r")["hgi_sam"][:] for n in ("whole", "half"))
    assert 0 < np.abs(whole.astype(np.float32) - less).mean() < atol


def test_every_method_can_be_named_in_a_profile(
    checkpoint: Checkpoint, prepared: PreparedDataset, tmp_path: Path
) -> None:
    profile = load_profile("smoke", [*TINY, f"maps.methods=[{','.join(METHODS)}]", "maps.stages=[0,1]"])
    methods = methods_of(profile.maps)
    assert methods["hgi_sam"].keywords["stages"] == (0, 1)
    extract_maps(SlicePredictor.of(checkpoint, profile), methods, prepared, str(tmp_path))
    assert set(zarr.open_group(tmp_path / "maps.zarr", mode="r").array_keys()) == set(METHODS)
    with pytest.raises(InputError, match=r"maps\.methods"):
        load_profile("smoke", [*TINY, "maps.methods=[]"])

"""External validation of a segmenter, and of unfinished runs; whole runs are in the tests of the pipeline."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from hgisam.config.profile import Profile
from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.inference.external import evaluate_external, map_external
from hgisam.inference.predictor import PROBABILITY, SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint, save_checkpoint
from hgisam.models.networks import build_network
from hgisam.runs.files import read_table
from tests.conftest import make_prepared, untrained


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("command", [map_external, evaluate_external])
def test_paths_may_be_text_and_a_run_must_be_finished(
    command: Callable[..., Path], kind: Callable[[Path], str | Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected one of phantom-binary, phantom-subtype, or a folder with"):
        command(kind(tmp_path / "run"), kind(tmp_path / "data"), kind(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def segmenter(tiny: Profile, tmp_path: Path) -> Path:
    """The folder of a segmenter in a run."""
    folder, profile = tmp_path / "run" / "baselines" / "unet" / "fold-0", tiny.variant("unet")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_checkpoint(folder, untrained(build_network(profile).eval(), profile), {})
    manifest = {
        "step": "baselines/unet/fold-0", "profile": profile.model_dump(mode="json"), "inputs": {}, "outputs": {},
        "packages": {}, "hardware": {"processor": "test", "cores": 2, "memory_gib": 1.0, "gpu": []},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_segmenter_is_mapped_and_evaluated_at_one_half_or_its_own_threshold(segmenter: Path, tmp_path: Path) -> None:
    data = open_prepared(make_prepared(tmp_path / "data", patients=4))
    mapped = map_external(segmenter, data.path, tmp_path / "maps")
    predictor = SlicePredictor(load_checkpoint(segmenter))
    expected, scores = predictor.predict(data.hu[:], data.brain[:], {PROBABILITY: probability_of_bleeding})
    found = zarr.open_group(mapped / "maps.zarr", mode="r")
    assert list(found.array_keys()) == [PROBABILITY]
    np.testing.assert_allclose(found[PROBABILITY][:], expected[PROBABILITY], atol=2e-3)  # type: ignore[index]
    np.testing.assert_allclose(read_table(mapped / "scores.parquet")["score"], scores, atol=1e-5)
    for threshold in (0.5, 0.25):
        if threshold != 0.5:
            methods = {name: {"threshold": threshold, "folds": []} for name in (PROBABILITY, "hgi_sam_density")}
            (segmenter / "thresholds.json").write_text(json.dumps({"dataset": "others", "methods": methods}))
        out = evaluate_external(segmenter, data.path, tmp_path / f"at-{threshold}")
        summary = json.loads((out / "summary.json").read_text())["segmentation"]
        assert list(summary) == [PROBABILITY]  # a method without maps is left out
        assert summary[PROBABILITY]["threshold"] == threshold
        assert summary[PROBABILITY]["n_slices"] == 4


def test_a_run_recorded_without_its_weights_names_a_network_that_it_has(segmenter: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "train").mkdir()
    (run / "train" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=rf"recorded without weights, .* Name one of them, e\.g\. {segmenter}\."):
        map_external(run, tmp_path / "data", tmp_path / "out")

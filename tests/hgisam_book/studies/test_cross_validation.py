"""Each slice by networks that never saw its mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import open_prepared, require_masks
from hgisam.inference import extraction
from hgisam.inference.predictor import SlicePredictor
from hgisam_book.studies import cross_validation
from hgisam_book.studies.cross_validation import extract_by_fold
from tests.conftest import make_prepared, untrained


class Constant(nn.Module):
    """A segmenter that predicts one probability of bleeding everywhere, and counts the slices it was given."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.logit, self.seen = float(np.log(probability / (1 - probability))), 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 2, H, W]."""
        self.seen += len(images)
        bleeding = torch.full_like(images[:, :1], self.logit)
        return torch.cat([torch.zeros_like(bleeding), bleeding], dim=1)


def test_each_fold_by_its_networks(tmp_path: Path, tiny: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four folds and four networks, in blocks that hold several folds; stopped once and resumed."""
    prepared = open_prepared(make_prepared(tmp_path / "set"))  # 8 patients of 6 slices, fold = patient // 2
    networks = [Constant(0.1 * (fold + 1)) for fold in range(4)]
    profile = tiny.model_copy(update={"task": "segmentation"})
    predictors = [SlicePredictor.of(untrained(n, profile), profile) for n in networks]
    monkeypatch.setattr(extraction, "BLOCK", 20)

    def stops(predict: Callable[[slice], Any], *arguments: Any, **options: Any) -> None:
        def until_the_second(rows: slice) -> Any:
            if rows.start == 20:
                raise KeyboardInterrupt
            return predict(rows)

        extraction.stream_maps(until_the_second, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "stream_maps", stops)
        with pytest.raises(KeyboardInterrupt):
            extract_by_fold("unet", predictors, prepared, tmp_path)
    before = sum(network.seen for network in networks)
    extract_by_fold("unet", predictors, prepared, tmp_path)
    bleeds = (require_masks(prepared)[:] > 0).any(axis=(1, 2))
    once = 20 + bleeds[:20].sum(), len(bleeds) + bleeds.sum()  # every slice once, bleeding ones twice, none again
    assert (before, sum(network.seen for network in networks)) == once
    maps = zarr.open_group(tmp_path / "maps.zarr", mode="r")
    fold, every = prepared.slices["fold"].to_numpy(), np.ones(len(bleeds), np.bool_)
    for name, network, asked in (
        ("unet", fold, every),
        ("unet_validation", (fold - 1) % 4, bleeds),  # fold 0 validates network 3
    ):
        assert maps[name].dtype == np.float16
        expected = np.broadcast_to((0.1 * (network + 1) * asked)[:, None, None], maps[name].shape)
        np.testing.assert_allclose(maps[name][:].astype(float), expected, rtol=1e-3)
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    np.testing.assert_allclose(scores["score"], 0.1 * (fold + 1), rtol=1e-3)

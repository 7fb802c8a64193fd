"""Deletion and insertion against curves calculated by hand: a model of four pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hgisam.config.profile import Profile
from hgisam.data.prepared import open_prepared
from hgisam.inference.predictor import SlicePredictor
from hgisam.maps import hgi_sam
from hgisam_book.studies.deletion_insertion import SHARES, deletion_and_insertion, ranks, scores_by_share
from hgisam_book.studies.method_comparison import bleeding_rows
from tests.conftest import make_prepared, untrained


class Spot(nn.Module):
    """Probability of a bleed: the mean of the first channel in a square, at least 0.001 and at most 0.999."""

    def forward(self, images: Tensor) -> Tensor:
        share = images[:, 0, 2:4, 2:4].mean(dim=(1, 2)).clamp(0.001, 0.999)
        return torch.stack([torch.zeros_like(share), (share / (1 - share)).log()], dim=1)


def test_ranks_by_hand() -> None:
    values = torch.tensor([[[0.5, 0.9], [0.5, 0.7]]])
    inside = torch.tensor([[[True, True], [True, False]]])
    noise = torch.tensor([[[0.8, 0.1], [0.2, 0.3]]])
    torch.testing.assert_close(ranks(values, inside, noise), torch.tensor([[[2 / 3, 0.0], [1 / 3, 2.0]]]))
    assert ranks(values, torch.zeros_like(inside), noise).tolist() == [[[2.0, 2.0], [2.0, 2.0]]]


def test_a_planted_spot_gives_the_known_curves(tiny: Profile) -> None:
    images = torch.zeros(1, 3, 10, 10)
    images[:, :, 2:4, 2:4] = 1  # mean of the "brain" 0.04
    inside = torch.ones(1, 10, 10, dtype=torch.bool)
    checkpoint = untrained(Spot(), tiny)
    order = ranks(images[:, 0], inside, torch.zeros(1, 10, 10))
    deleted = [int(np.ceil(round(100 * share, 9))) for share in SHARES]  # deleted pixels
    assert deleted[:5] == [0, 1, 3, 5, 9]
    assert deleted[-1] == 100
    kept = np.array([4 - min(count, 4) for count in deleted])
    found = scores_by_share(SlicePredictor.of(checkpoint, tiny), images, inside, order)
    np.testing.assert_allclose(found["deletion"][0], np.clip((kept + 0.04 * (4 - kept)) / 4, 0, 0.999), atol=1e-5)
    np.testing.assert_allclose(found["insertion"][0], np.clip((4 - kept + 0.04 * kept) / 4, 0, 0.999), atol=1e-5)


def test_a_map_of_the_spot_is_better_than_any_other(tiny: Profile, tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", splits=("val", "test")))
    rows = bleeding_rows(prepared, "test", most=100, seed=0)

    class Bright(nn.Module):
        """Probability of a bleed by the number of bright pixels."""

        def forward(self, images: Tensor) -> Tensor:
            share = (images[:, 0] > 0.7).float().mean(dim=(1, 2)) * 20
            return torch.stack([torch.zeros_like(share), share - 1], dim=1)

    def bright(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return images[:, 0].clamp(0, 1)

    def dark(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return 1 - images[:, 0].clamp(0, 1)

    predictor = SlicePredictor.of(untrained(Bright(), tiny), tiny)
    options = {"bootstrap": tiny.evaluate.bootstrap, "seed": tiny.seed}
    table = deletion_and_insertion(predictor, prepared, {"bright": bright, "dark": dark}, rows, **options)
    area = table[table["metric"] == "auc"].pivot(index="method", columns="test", values="mean")
    deletion, insertion = area["deletion"], area["insertion"]
    assert deletion["bright"] < deletion["random order"] < deletion["dark"]
    assert insertion["bright"] > insertion["random order"] > insertion["dark"]
    assert deletion["annotated bleed first"] == pytest.approx(deletion["bright"], abs=0.02)
    curve = table[(table["metric"] == "score") & (table["test"] == "deletion") & (table["method"] == "dark")]
    np.testing.assert_allclose(curve["at"].astype(float), SHARES, atol=1e-4)
    assert curve["mean"].iloc[0] > curve["mean"].iloc[-1]
    again = deletion_and_insertion(predictor, prepared, {"bright": bright, "dark": dark}, rows, **options)
    assert again.equals(table)


def test_real_maps_are_evaluated_too(tiny: Profile, tiny_model: nn.Module, tmp_path: Path) -> None:
    prepared = open_prepared(make_prepared(tmp_path / "set", splits=("val", "test")))
    rows = bleeding_rows(prepared, "test", most=2, seed=0)
    predictor = SlicePredictor.of(untrained(tiny_model, tiny), tiny)
    options = {"bootstrap": tiny.evaluate.bootstrap, "seed": tiny.seed}
    table = deletion_and_insertion(predictor, prepared, {"hgi_sam": hgi_sam}, rows, **options)
    assert set(table["method"]) == {"annotated bleed first", "random order", "hgi_sam"}
    assert len(table) == 2 * 3 * (len(SHARES) + 1)
    assert table["mean"].between(0, 1).all()

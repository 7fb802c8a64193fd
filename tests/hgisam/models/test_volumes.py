"""The classifier of volumes: shapes, pooling, and a map of it."""

import pytest
import torch

from hgisam.errors import InputError
from hgisam.maps import hgi_sam
from hgisam.models import VolumeClassifier

SMALL = {"embed_dim": 12, "heads": (1, 2, 2, 4), "window": (2, 2, 2), "patch": (1, 2, 2)}


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_logits_are_a_linear_function_of_pooled_features(pool: str) -> None:
    torch.manual_seed(0)
    model = VolumeClassifier(2, 3, pool=pool, **SMALL).eval()
    volumes = torch.randn(2, 2, 16, 32, 32)
    with torch.no_grad():
        features = model.swin(volumes)[-1]
        pooled = features.amax(dim=(2, 3, 4)) if pool == "max" else features.mean(dim=(2, 3, 4))
        torch.testing.assert_close(model(volumes), pooled @ model.head.weight.T + model.head.bias)
    maps = hgi_sam(model, volumes, 2)
    assert maps.shape == (2, 16, 32, 32)
    assert maps.amax(dim=(1, 2, 3)).tolist() == [1, 1]


def test_another_pooling_is_an_error() -> None:
    with pytest.raises(InputError, match="pool: got 'mean', expected max or avg"):
        VolumeClassifier(1, 2, pool="mean")

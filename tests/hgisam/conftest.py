"""A small evaluation set and an untrained network for it, for the tests of what measures maps."""

from pathlib import Path

import pytest
import torch
from torch import nn

from hgisam.checkpoint import Checkpoint
from hgisam.prepared import PreparedDataset, open_prepared
from hgisam.profile import Profile
from tests.conftest import make_prepared


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    """Eight bleeding slices, four of validation and four of test patients."""
    return open_prepared(make_prepared(tmp_path / "set", splits=("val", "test")))


@pytest.fixture
def checkpoint(tiny: Profile, tiny_model: nn.Module) -> Checkpoint:
    """Reads the slices of `prepared` as they are."""
    return Checkpoint(tiny_model, tiny, torch.zeros(3), torch.ones(3), 0.5)

"""A precision that the device computes in, and no emulated one."""

from types import SimpleNamespace

import pytest
import torch

from hgisam.config.profile import load_profile
from hgisam.models.device import autocast, usable_precision
from hgisam.training.fabric import make_fabric

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A CPU with and without bfloat16."""
    has: bool = request.param
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    return has


def test_bfloat16_only_where_the_cpu_has_it(native: bool) -> None:
    assert usable_precision("bf16-mixed", CPU) == ("bf16-mixed" if native else "32-true")
    assert usable_precision("16-mixed", CPU) == "16-mixed"
    assert usable_precision("32-true", CPU) == "32-true"
    assert usable_precision("bf16-mixed", torch.device("cuda", 0)) == "bf16-mixed"
    expected = torch.bfloat16 if native else torch.float32
    with autocast("bf16-mixed", CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
    compute = load_profile("smoke", ["compute.accelerator=cpu"]).compute
    assert compute.precision == "bf16-mixed"
    fabric = make_fabric(compute)
    assert fabric.strategy.precision.precision == ("bf16-mixed" if native else "32-true")


def test_a_torch_without_mkldnn_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where the operator does not exist."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert usable_precision("bf16-mixed", CPU) == "32-true"

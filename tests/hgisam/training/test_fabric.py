"""Devices, and the memory that the C library keeps."""

import platform
import subprocess
import sys

import pytest
import torch

from hgisam.config.profile import load_profile
from hgisam.errors import InputError
from hgisam.training import fabric


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="CUDA device"):
        fabric.make_fabric(load_profile("smoke", ["compute.accelerator=gpu"]).compute)


FAULTS = """
import resource, sys, torch
from hgisam.training.fabric import make_fabric
from hgisam.config.profile import load_profile
if sys.argv[1] == "keep":
    make_fabric(load_profile("smoke", ["compute.accelerator=cpu"]).compute)
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has this setting")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    def page_faults(mode: str) -> int:
        command = [sys.executable, "-c", FAULTS, mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])

    assert page_faults("keep") < 0.1 * page_faults("return")

"""The example profile of a SLURM cluster uses existing rules, options and resources."""

from typing import Any

import pytest
from snakemake.cli import get_argument_parser

import steps
from hgisam.config.overrides import read_yaml

FILE = steps.BOOK / "profiles" / "slurm" / "config.yaml"
# options of snakemake-executor-plugin-slurm 2.8, which is not a dependency, and the resources that it passes to sbatch
PLUGIN_OPTIONS = {"slurm-requeue"}
RESOURCES = {
    "slurm_account", "slurm_partition", "slurm_extra", "runtime", "mem_mb", "mem_mb_per_cpu", "cpus_per_task",
    "cpus_per_gpu", "gpu", "gpu_model", "gres", "nodes", "tasks", "constraint", "qos",
}  # fmt: skip


@pytest.fixture
def settings() -> dict[str, Any]:
    """The file."""
    read: dict[str, Any] = read_yaml(FILE, FILE.name)
    return read


def test_options_and_resources_exist(settings: dict[str, Any]) -> None:
    known = {option.removeprefix("--") for action in get_argument_parser()._actions for option in action.option_strings}
    assert settings["executor"] == "slurm"
    assert set(settings) <= known | PLUGIN_OPTIONS
    for requested in (settings["default-resources"], *settings["set-resources"].values()):
        assert set(requested) <= RESOURCES


def test_notebooks_with_a_gpu_use_the_gpu_partition(settings: dict[str, Any]) -> None:
    usual = settings["default-resources"]["slurm_partition"]
    gpu_rules = {rule for rule, requested in settings["set-resources"].items() if requested["slurm_partition"] != usual}
    assert gpu_rules == {f"notebook_{name}" for name, step in steps.STEPS.items() if step.gpus != "none"}


def test_rules_share_what_is_there(settings: dict[str, Any]) -> None:
    assert 0 < settings["max-threads"] <= settings["cores"]
    assert settings["default-resources"]["nodes"] == 1  # one command starts the processes of one node alone

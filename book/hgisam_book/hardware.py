"""The machine of a manifest, in words."""

from collections.abc import Mapping
from typing import Any


def hardware_words(hardware: Mapping[str, Any]) -> str:
    """A manifest's `hardware` in one line.

    Example:
        >>> hardware_words({"processor": "AMD EPYC", "cores": 2, "memory_gib": 24.0, "gpu": []})
        'AMD EPYC, 2 cores, 24.0 GiB, GPU: none'
    """
    gpu = ", ".join(hardware["gpu"]) or "none"
    return f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, GPU: {gpu}"

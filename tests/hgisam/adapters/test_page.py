"""The page "Maps for your own Swin": each code block runs, in order, and README begins with the first."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "book" / "maps_for_your_swin.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^#+ (.*?)\n.*?```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE))
IMPORTS = "import timm, torch\nfrom hgisam import hgi_sam\n"  # of the first block, which readers have run before


def test_every_code_block_of_the_page_is_tested() -> None:
    assert len(SECTIONS) == PAGE.count("```python") == 7


@pytest.mark.parametrize("section", SECTIONS)
def test_a_code_block_runs_and_gives_a_map(section: str) -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(IMPORTS + SECTIONS[section], section, "exec"), names)
    given = names["volumes"] if "volumes" in names else names["images"]
    maps: list[Tensor] = (
        [names["maps"]] if "maps" in names else [*names["per_label"].values(), *names["others"].values()]
    )
    for each in maps:
        assert each.shape == (len(given), *given.shape[2:])
        assert torch.isfinite(each).all()
        assert each.min() == 0
    assert maps[0].max() == 1


def test_readme_begins_with_the_first_block_of_the_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert first
    assert first[1] == next(iter(SECTIONS.values()))
    assert SECTIONS["Maps for your own Swin"].startswith(IMPORTS)

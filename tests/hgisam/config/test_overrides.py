"""YAML that can't be taken as it was meant is refused."""

from pathlib import Path

import pytest

from hgisam.config.overrides import load_yaml, read_yaml
from hgisam.errors import InputError


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 3", "x: {a: 1, a: 2}", "- a: 1\n  a: 2", "a: [", "day: 2024-13-45", "[" * 3000],
    ids=["twice", "twice in braces", "twice in a list", "broken", "no date", "deep"],
)
def test_it_is_named(text: str) -> None:
    with pytest.raises(InputError, match="profile x: got no valid YAML"):
        load_yaml(text, "profile x")


def test_anchors_and_merged_keys_are_taken() -> None:
    text = "a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  x: 3\n"
    assert load_yaml(text, "t") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes("name: Müller".encode("latin-1"))
    with pytest.raises(InputError, match="expected a text in UTF-8"):
        read_yaml(file, "profile p")

"""YAML that can't be taken as it was meant is refused."""

from pathlib import Path

import pytest

from hgisam.config.overrides import load_yaml, read_yaml
from hgisam.config.profile import load_profile
from hgisam.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: 2\na: 3",
        "x: {a: 1, a: 2}",
        "- a: 1\n  a: 2",
        "a: [",
        "day: 2024-13-45",
        "!!bool maybe",
        "!!float",
        "? {a: 1}\n: 2",
        "!!python/object/apply:os.getcwd []",
        "[" * 3000,
    ],
    ids=[
        "duplicate",
        "duplicate in braces",
        "duplicate in a list",
        "broken",
        "no date",
        "no bool",
        "no number",
        "no key",
        "an object",
        "deep",
    ],
)
def test_it_is_named(text: str) -> None:
    with pytest.raises(InputError, match="profile x: got no valid YAML") as caught:
        load_yaml(text, "profile x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_the_duplicate_key_and_its_line_are_named() -> None:
    with pytest.raises(InputError, match=r'\(found duplicate key "a", line 3\)'):
        load_yaml("a: 1\nb: 2\na: {c: 3}", "profile x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("3", 3), ("0.5", 0.5), ("null", None), ("", None), ("true", True), ("[1, 2]", [1, 2]),
        ("{a: b}", {"a": "b"}), ('"7"', "7"), ("'1e-3'", "1e-3"), ("yes", "yes"), ("010", 10), ("1:30", "1:30"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    loaded = load_yaml(text, "t")
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("off", False), ("true", True)])
def test_a_switch_may_be_named_as_in_yaml_1_1(text: str, value: bool) -> None:
    assert load_profile("smoke", [f"train.tensorboard={text}"]).train.tensorboard is value


def test_anchors_and_merged_keys_are_taken() -> None:
    text = "a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  x: 3\n"
    assert load_yaml(text, "t") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes("name: Müller".encode("latin-1"))
    with pytest.raises(InputError, match="expected a text in UTF-8"):
        read_yaml(file, "profile p")

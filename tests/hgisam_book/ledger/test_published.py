"""Published numbers: complete, cited, and consistent where two of them determine a third."""

import re
from pathlib import Path

import pytest

from hgisam.errors import InputError
from hgisam_book.ledger import dice_from, published_table, read_published

BOOK = Path(__file__).resolve().parents[3] / "book"


def test_every_number_has_a_reference() -> None:
    keys = set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    assert {one.source for one in read_published()} <= keys


def test_table() -> None:
    numbers = read_published()
    table = published_table(numbers)
    assert len(table) == len(numbers) == len(set(table.index))
    assert set(table["label"]) == {"exam", "slice", "box", "ball", "mask"}
    assert table.loc["FocalSegNet", "misses"] == "left out"


def test_one_count_has_one_dice() -> None:
    text = {one.system: one.result for one in read_published()}["MIL likelihood maps"]
    dice, sensitivity, precision = (float(found) for found in re.findall(r"0\.\d+", text))
    assert dice_from(sensitivity, precision) == pytest.approx(dice, abs=5e-5)


def test_a_missing_key_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "published.yaml"
    path.write_text("numbers:\n  - system: Nobody's\n", encoding="utf-8")
    with pytest.raises(InputError, match="source") as raised:
        read_published(path)
    assert "\n" not in str(raised.value)

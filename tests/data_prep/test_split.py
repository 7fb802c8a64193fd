"""Patients are dealt evenly, and nobody twice."""

from collections import Counter

import pytest

from data_prep.privacy import public_id
from data_prep.split import split_patients
from hgisam.errors import InputError


def deal(
    bleeding: int, clear: int, rest: str = "train", fraction: float = 0.2, seed: int = 0
) -> dict[str, tuple[str, int]]:
    bleeds = {f"b{i}": True for i in range(bleeding)} | {f"c{i}": False for i in range(clear)}
    return split_patients(bleeds, rest=rest, validation_fraction=fraction, folds=5, seed=seed)


def test_classes_are_dealt_evenly() -> None:
    dealt = deal(30, 70)
    assert Counter((p[0], split) for p, (split, _) in dealt.items()) == {
        ("b", "train"): 24, ("b", "val"): 6, ("c", "train"): 56, ("c", "val"): 14
    }  # fmt: skip
    assert set(Counter((p[0], fold) for p, (_, fold) in dealt.items()).values()) == {6, 14}


def test_same_seed_same_split_whatever_the_order() -> None:
    bleeds = {f"p{i}": i % 3 == 0 for i in range(20)}
    turned = dict(reversed(bleeds.items()))
    first, second = (split_patients(b, rest="test", validation_fraction=0.3, folds=4, seed=3) for b in (bleeds, turned))
    assert first == second
    assert first != split_patients(bleeds, rest="test", validation_fraction=0.3, folds=4, seed=4)
    assert {split for split, _ in first.values()} == {"val", "test"}


@pytest.mark.parametrize(("bleeding", "clear"), [(1, 1), (2, 0), (0, 2), (1, 5), (2, 2), (3, 1)])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_few_patients_still_stand_on_both_sides(bleeding: int, clear: int, fraction: float) -> None:
    dealt = deal(bleeding, clear, fraction=fraction)
    sides = Counter(split for split, _ in dealt.values())
    assert sides["train"] >= 1
    assert sides["val"] >= 1
    if bleeding:
        assert any(split == "train" for p, (split, _) in dealt.items() if p[0] == "b")


def test_one_patient() -> None:
    assert deal(1, 0, rest="test") == {"b0": ("test", 0)}
    with pytest.raises(InputError, match="at least two patients"):
        deal(1, 0)


def test_ids_of_public_sets_stay_and_others_are_hashed() -> None:
    assert public_id("ID_0a1b2c3d") == "ID_0a1b2c3d"
    assert public_id("049") == "049"
    assert public_id("Miller^Jane").startswith("h_")
    assert public_id("12345678") == public_id("12345678") != public_id("12345679")
    assert public_id("anything", anonymous=True) == "anything"

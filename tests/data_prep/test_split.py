"""The stratified split: every patient once, every stratum evenly."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from data_prep.split import read_splits, split_patients, strata_of
from hgisam.data.labels import LABELS, SUBTYPES
from hgisam.errors import InputError


def table(*patients: tuple[str, str]) -> pd.DataFrame:
    """One row per (name, subtypes as one text: "subdural+epidural", "any", "")."""
    rows = [[int(bool(has)), *(int(name in has) for name in SUBTYPES)] for _, has in patients]
    return pd.DataFrame(rows, index=[name for name, _ in patients], columns=list(LABELS))


def split(
    bleeding: int, clear: int, main_split: str = "train", fraction: float = 0.2, seed: int = 0
) -> dict[str, tuple[str, int]]:
    labels = table(*((f"b{i}", "any") for i in range(bleeding)), *((f"c{i}", "") for i in range(clear)))
    return split_patients(labels, main_split=main_split, validation_fraction=fraction, folds=5, seed=seed)


def test_classes_are_split_evenly() -> None:
    assigned = split(30, 70)
    assert Counter((p[0], split) for p, (split, _) in assigned.items()) == {
        ("b", "train"): 24, ("b", "val"): 6, ("c", "train"): 56, ("c", "val"): 14
    }  # fmt: skip
    assert set(Counter((p[0], fold) for p, (_, fold) in assigned.items()).values()) == {6, 14}


def test_same_seed_same_split_whatever_the_order() -> None:
    labels = table(*((f"p{i}", "subdural" if i % 3 == 0 else "") for i in range(20)))
    first, second = (
        split_patients(b, main_split="test", validation_fraction=0.3, folds=4, seed=3) for b in (labels, labels[::-1])
    )
    assert first == second
    assert first != split_patients(labels, main_split="test", validation_fraction=0.3, folds=4, seed=4)
    assert {split for split, _ in first.values()} == {"val", "test"}


def test_a_rare_subtype_is_in_every_part() -> None:
    often = [(f"s{i}", "subdural") for i in range(40)]
    rare = [(f"e{i}", "subdural+epidural") for i in range(5)]
    assigned = split_patients(
        table(*often, *rare, *((f"c{i}", "") for i in range(55))),
        main_split="train",
        validation_fraction=0.2,
        folds=5,
        seed=1,
    )
    assert Counter((p[0], split) for p, (split, _) in assigned.items()) == {
        ("s", "train"): 32, ("s", "val"): 8, ("e", "train"): 4, ("e", "val"): 1, ("c", "train"): 44, ("c", "val"): 11
    }  # fmt: skip
    assert set(Counter((p[0], fold) for p, (_, fold) in assigned.items()).values()) == {8, 1, 11}


def test_the_stratum_of_a_patient_is_its_rarest_subtype() -> None:
    labels = table(("a", "subdural"), ("b", "subdural+epidural"), ("c", "epidural"), ("d", "subdural"), ("e", "any"),
                   ("f", ""), ("g", "subdural+intraventricular"))  # fmt: skip
    assert strata_of(labels, min_patients=1).to_dict() == {
        "a": "subdural", "b": "epidural", "c": "epidural", "d": "subdural", "e": "any", "f": "none",
        "g": "intraventricular",
    }  # fmt: skip
    assert strata_of(labels, min_patients=2)["g"] == "any"
    assert (strata_of(labels * 0 - 1, min_patients=1) == "none").all()  # a data set without labels


def test_strata_too_small_for_the_validation_split_are_merged() -> None:
    labels = table(("a", "epidural"), ("b", "subdural"), ("c", "subarachnoid"), *((f"n{i}", "") for i in range(10)))
    assigned = split_patients(labels, main_split="train", validation_fraction=0.2, folds=5, seed=0)
    assert sum(assigned[patient][0] == "val" for patient in "abc") == 1


@pytest.mark.parametrize(("bleeding", "clear"), [(1, 1), (2, 0), (0, 2), (1, 5), (2, 2), (3, 1)])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_few_patients_are_still_on_both_sides(bleeding: int, clear: int, fraction: float) -> None:
    assigned = split(bleeding, clear, fraction=fraction)
    sides = Counter(split for split, _ in assigned.values())
    assert sides["train"] >= 1
    assert sides["val"] >= 1
    if bleeding:
        assert any(split == "train" for p, (split, _) in assigned.items() if p[0] == "b")


def test_one_patient() -> None:
    assert split(1, 0, main_split="test") == {"b0": ("test", 0)}
    with pytest.raises(InputError, match="at least two patients"):
        split(1, 0)


def test_a_given_split_is_read(tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("study,patient,split,fold\ns1,007,train,1\ns2,007,train,1\ns3,b,val,0\ns4,c,test,2\n")
    given, absent = read_splits(file, {"007", "b"})
    assert given == {"007": ("train", 1), "b": ("val", 0), "c": ("test", 2)}
    assert absent == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("patient,split\na,train\n", "unreadable"),
        ("", "unreadable"),
        ("patient,split,fold\na,training,0\n", "split training"),
        ("patient,split,fold\na,,0\n", "split nan"),
        ("patient,split,fold\na,train,\n", "numbers of folds"),
        ("patient,split,fold\na,train,-1\n", "numbers of folds"),
        ("patient,split,fold\na,train,one\n", "numbers of folds"),
        ("patient,split,fold\na,train,0\na,val,0\n", "patient a in two splits"),
        ("patient,split,fold\na,train,0\n", "none of 1 patients, e.g. b"),
    ],
)
def test_a_wrong_split_is_one_error(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "splits.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=problem):
        read_splits(file, {"a", "b"})

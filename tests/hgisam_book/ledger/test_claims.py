"""Claims get a verdict by their rules, and PASS or FAIL only on their own data set."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hgisam.errors import InputError
from hgisam_book.ledger.claims import SHIPPED, Claim, Ledger, holds, load_ledger, measured_value, verdicts
from hgisam_book.ledger.summary_query import Measured, find_value

ROW: dict[str, Any] = {
    "id": "a", "kind": "published", "claim": "It works.", "source": "somebody2020", "dataset": "CT-ICH",
    "rule": "at_least", "value": "segmentation.x.dice_slice", "number": 0.44, "unit": "Dice", "tolerance": 0.02,
    "because": "Seeds differ.", "see": "06_results", "explanation": "It is small.",
}  # fmt: skip
TARGET = {"id": "t", "kind": "own target", "dataset": "phantom", "source": None}
DIFFERENCE = {"rule": "better", "value": "comparisons.x.y", "number": None, "tolerance": None, "because": None}


def row(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (ROW | changes).items() if value is not None}


def claim(**changes: Any) -> Claim:
    return Claim(**row(**changes))


def value(mean: float, low: float | None = None, high: float | None = None) -> Measured:
    return Measured(mean=mean, ci95=None if low is None or high is None else (low, high))


def summary(source: str = "ct-ich", dice: float = 0.5, profile: str = "paper") -> dict[str, Any]:
    figures = {"x": {"dice_slice": {"mean": dice, "ci95": [dice - 0.1, dice + 0.1]}}}
    return {"profile": profile, "dataset": "ct-ich", "source": source, "segmentation": figures, "comparisons": []}


def outcomes(ledger: Ledger, **summaries: dict[str, Any]) -> list[tuple[str, str, str]]:
    table = verdicts(ledger, summaries)
    return list(zip(table["id"], table["data"], table["verdict"], strict=True))


def full_summary() -> dict[str, Any]:
    """Summary of a run with all studies."""
    dice, methods = {"mean": 0.5, "ci95": [0.4, 0.6]}, ("hgi_sam", "swin_sam", "grad_cam", "unet", "swin_unetr")
    methods = (*methods, "unet_published", "hu_threshold", "smooth_hu_threshold", "density_alone", "hgi_sam_refined")
    pairs = [(a, b) for i, a in enumerate(methods) for b in methods[i + 1 :]]
    pair = {"metric": "dice_slice", "difference": 0.1, "ci95": [0.05, 0.15]}
    study = dict.fromkeys(("binary", "subtype", "difference"), dice) | {"p_value": 0.5, "effect_size": 0.1}
    return {
        "profile": "paper", "dataset": "ct-ich", "source": "ct-ich",
        "detection": {"swin": {"auroc": dice}},
        "segmentation": {name: {"dice_slice": dice} for name in methods},
        "comparisons": [pair | {"a": a, "b": b} for a, b in pairs],
        "studies": {"binary_vs_subtype": dict.fromkeys(("hgi_sam", "swin_sam", "auroc"), study)},
    }  # fmt: skip


@pytest.mark.parametrize(("mean", "expected"), [(0.5, True), (0.44, True), (0.42, True), (0.4199, False), (0.0, False)])
def test_at_least_the_number_less_the_tolerance(mean: float, expected: bool) -> None:
    assert holds(claim(), value(mean)) is expected


def test_without_a_tolerance_the_number_itself_counts() -> None:
    strict = claim(tolerance=None, because=None)
    assert holds(strict, value(0.44)) is True
    assert holds(strict, value(0.4399)) is False


@pytest.mark.parametrize(
    ("mean", "expected"), [(0.407, True), (0.447, True), (0.367, True), (0.45, False), (0.36, False)]
)
def test_within_the_tolerance_on_both_sides(mean: float, expected: bool) -> None:
    assert holds(claim(rule="within", number=0.407, tolerance=0.04), value(mean)) is expected


def test_better_depends_on_the_interval_not_on_the_mean() -> None:
    better = claim(**DIFFERENCE)
    assert holds(better, value(0.1, 0.01, 0.2)) is True
    assert holds(better, value(0.1, -0.01, 0.2)) is False
    assert holds(better, value(0.1, 0.0, 0.2)) is False
    assert holds(better, value(0.1)) is None


def test_not_worse_requires_that_the_interval_excludes_the_margin() -> None:
    margin = claim(**DIFFERENCE | {"rule": "not_worse", "tolerance": 0.05, "because": "Ours."})
    assert holds(margin, value(-0.02, -0.04, 0.0)) is True
    assert holds(margin, value(0.0, -0.2, 0.2)) is False  # no significant difference is not enough
    assert holds(margin, value(-0.1, -0.12, -0.08)) is False


def test_a_share_of_another_value() -> None:
    share = claim(rule="share_of", number=0.9, of="segmentation.y.dice_slice", tolerance=None, because=None)
    run = summary(dice=0.45)
    assert measured_value(share, run) is None
    run["segmentation"]["y"] = {"dice_slice": {"mean": 0.5, "ci95": None}}
    assert measured_value(share, run) == value(0.9)
    assert holds(share, value(0.9)) is True
    assert holds(share, value(0.89)) is False
    run["segmentation"]["y"] = {"dice_slice": {"mean": 0.0, "ci95": None}}
    assert measured_value(share, run) is None


def test_a_phantom_is_never_a_reproduction() -> None:
    ledger = Ledger.model_validate({"not_judged": [], "claims": [row(), row(**TARGET)]})
    assert outcomes(ledger) == [("a", "CT-ICH", "NOT RUN"), ("t", "phantom", "NOT RUN")]
    assert outcomes(ledger, one=summary("phantom"), other=summary("phantom", dice=0.2)) == [
        ("a", "CT-ICH", "NOT RUN"), ("a", "phantom", "yes"), ("a", "phantom", "no"),
        ("t", "phantom", "PASS"), ("t", "phantom", "FAIL"),
    ]  # fmt: skip
    assert outcomes(ledger, one=summary("ct-ich"), other=summary("ct-ich", dice=0.2)) == [
        ("a", "CT-ICH", "PASS"), ("a", "CT-ICH", "FAIL"),
        ("t", "phantom", "NOT RUN"), ("t", "CT-ICH", "yes"), ("t", "CT-ICH", "no"),
    ]  # fmt: skip
    assert outcomes(ledger, one=summary("somewhere"))[:2] == [
        ("a", "CT-ICH", "NOT RUN"), ("a", "ct-ich of somewhere", "yes")
    ]  # fmt: skip


def test_the_table_has_values_with_their_interval() -> None:
    ledger = Ledger.model_validate({"not_judged": [], "claims": [row()]})
    (found,) = verdicts(ledger, {"r": summary()}).to_dict("records")
    assert (found["mean"], found["low"], found["high"]) == (0.5, 0.4, 0.6)
    assert (found["run"], found["profile"], found["target"]) == ("r", "paper", "≥ 0.44 − 0.02")


def test_a_run_without_the_value_is_not_run() -> None:
    ledger = Ledger.model_validate({"not_judged": [], "claims": [row(value="segmentation.z.dice_slice")]})
    assert outcomes(ledger, real=summary(), made=summary("phantom")) == [
        ("a", "CT-ICH", "NOT RUN"), ("a", "phantom", "not run")
    ]  # fmt: skip


def test_the_smoke_profile_is_shown_without_verdict() -> None:
    ledger = Ledger.model_validate({"not_judged": ["smoke"], "claims": [row(), row(**TARGET)]})
    table = verdicts(ledger, {"r": summary("phantom", profile="smoke")})
    assert table["verdict"].tolist() == ["NOT RUN", "not run", "NOT RUN"]
    assert table["mean"].tolist()[1:] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"toleranse": 0.1}, "Did you mean tolerance"),
        ({"number": None}, "at_least requires number"),
        ({"of": "a.b"}, "at_least requires number"),
        (DIFFERENCE | {"number": 0.4}, "better requires neither"),
        (DIFFERENCE | {"rule": "not_worse"}, "not_worse requires tolerance"),
        ({"because": None}, "requires a reason"),
        ({"tolerance": None}, "requires a reason"),
        ({"tolerance": -0.1}, "greater than 0"),
        ({"source": None}, "requires a source"),
        ({"explanation": None}, "explanation"),
        ({"dataset": "ct-ich"}, "CT-ICH"),
        ({"number": float("nan")}, "finite"),
    ],
)
def test_an_invalid_claim_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "ledger.yaml"
    YAML(typ="safe", pure=True).dump({"not_judged": [], "claims": [row(**changes)]}, path)
    with pytest.raises(InputError, match=message) as caught:
        load_ledger(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["claims: [", "[]", "not_judged: []\nclaims: []\n", "\xff"])
def test_a_broken_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ledger.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="ledger") as caught:
        load_ledger(path)
    assert "\n" not in str(caught.value)


def test_an_id_is_unique(tmp_path: Path) -> None:
    path = tmp_path / "ledger.yaml"
    YAML(typ="safe", pure=True).dump({"not_judged": [], "claims": [row(), row()]}, path)
    with pytest.raises(InputError, match="the id a is not unique"):
        load_ledger(path)


def test_every_query_of_the_shipped_ledger_finds_a_value() -> None:
    whole = full_summary()
    for shipped in load_ledger().claims:
        assert find_value(whole, shipped.value) is not None, shipped.id
        assert shipped.of is None or find_value(whole, shipped.of) is not None, shipped.id
    assert not verdicts(load_ledger(), {"r": whole})["verdict"].isin(["not run"]).any()


def test_the_shipped_numbers_are_those_of_the_abstracts() -> None:
    numbers = {shipped.id: shipped.number for shipped in load_ledger().claims if shipped.kind != "own target"}
    published = {"a": 0.44, "a-v1": 0.47, "f-dice": 0.407, "f-auc": 0.974, "p-unet": 0.31, "p-auc": 0.964}
    assert {name: number for name, number in numbers.items() if number is not None} == published


def test_sources_are_in_the_bibliography_and_anchors_in_the_book() -> None:
    from docutils.nodes import make_id

    book = Path(__file__).parents[3] / "book"
    keys = set(re.findall(r"^@\w+\{(\w+),", (book / "references.bib").read_text(), re.MULTILINE))
    for shipped in load_ledger().claims:
        assert shipped.source is None or shipped.source in keys, shipped.id
        page, _, anchor = shipped.see.partition("#")
        assert re.fullmatch(r"\d\d_[a-z_]+", page), shipped.id
        if anchor:
            text = (book / f"{page}.ipynb").read_text()
            assert anchor in {make_id(title) for title in re.findall(r'"#+ (.+?)(?:\\n)?"', text)}, shipped.id


def test_the_ledger_ships_and_counts_as_code(tmp_path: Path) -> None:
    from hgisam.runs.sources import sources_of

    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '"ledger/claims.yaml"' in project
    assert SHIPPED in sources_of("import hgisam_book.ledger.claims")
    shutil.copy(SHIPPED, tmp_path)
    assert load_ledger(tmp_path / SHIPPED.name) == load_ledger()

"""The ledger: every published claim, what of it a run can check, and the verdict.

A claim is judged where it was made. On the data set that it names, a run says PASS or FAIL, and NOT RUN without one; a
value measured elsewhere, on phantoms say, answers whether the claim holds *there*, "yes" or "no", and nothing else.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hgisam.config.overrides import first_error, read_yaml
from hgisam.errors import InputError
from hgisam_book.ledger.summary_query import Finite, Measured, Summary, find, place_of

SHIPPED = Path(__file__).with_suffix(".yaml")
PASS, FAIL, NOT_RUN = "PASS", "FAIL", "NOT RUN"  # where the claim was made
YES, NO, NOT_SEEN = "yes", "no", "not run"  # anywhere else
ROUNDING = 1e-9  # 0.407 − 0.367 is not quite 0.04
# keys that each rule needs; `tolerance` is also for at_least
NEEDS: dict[str, set[str]] = {
    "at_least": {"number"},
    "within": {"number", "tolerance"},
    "better": set(),
    "not_worse": {"tolerance"},
    "share_of": {"number", "of"},
}
Text = Annotated[str, Field(min_length=1)]


class Claim(BaseModel):
    """A row of the ledger.

    Attributes:
        id: Short name.
        kind: "published" by the authors of the method, by a "peer" on the same data, or an "own target".
        claim: What is claimed, in our words.
        source: Key in `book/references.bib`.
        dataset: On which the claim was made.
        rule: "at_least": value ≥ number − tolerance. "within": |value − number| ≤ tolerance. "better": the 95 %
            interval of a paired difference lies above 0. "not_worse": it lies above −tolerance, the margin of
            non-inferiority. "share_of": value ≥ number × that of another query.
        value: Query of the value in a run's summary; see `hgisam_book.ledger.summary_query.find`.
        of: Query of the other value.
        number: Published, or aimed at.
        unit: Of number and value.
        tolerance: In that unit.
        because: Why the tolerance is what it is.
        see: Page of the book that shows the value, with the anchor of its section.
        explanation: Why the row may fail; shown where it does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    kind: Literal["published", "peer", "own target"]
    claim: Text
    source: Text | None = None
    dataset: Literal["CT-ICH", "phantom"]
    rule: Literal["at_least", "within", "better", "not_worse", "share_of"]
    value: Text
    of: Text | None = None
    number: Finite | None = None
    unit: Text
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    because: Text | None = None
    see: Text
    explanation: Text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = {key for key in ("number", "tolerance", "of") if getattr(self, key) is not None}
        allowed = NEEDS[self.rule] | ({"tolerance"} if self.rule == "at_least" else set())
        if not NEEDS[self.rule] <= given <= allowed:
            wanted = ", ".join(sorted(NEEDS[self.rule])) or "neither number, tolerance nor of"
            raise ValueError(f"the rule {self.rule} goes with {wanted}")
        if (self.tolerance is None) != (self.because is None):
            raise ValueError("a tolerance goes with its reason, in the key because")
        if self.kind != "own target" and self.source is None:
            raise ValueError("what others claim has a source")
        return self

    @property
    def wanted(self) -> str:
        """What the value has to be."""
        number, tolerance = (f"{value:g}" if value is not None else "" for value in (self.number, self.tolerance))
        return {
            "at_least": f"≥ {number} − {tolerance}" if tolerance else f"≥ {number}",
            "within": f"{number} ± {tolerance}",
            "better": "interval > 0",
            "not_worse": f"interval > −{tolerance}",
            "share_of": f"≥ {number}",
        }[self.rule]


class Ledger(BaseModel):
    """All claims. `not_judged`: profiles whose values are shown and no more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_judged: list[str]
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        ids = [claim.id for claim in self.claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"the id {twice[0]} stands twice")
        return self


def load_ledger(path: Path = SHIPPED) -> Ledger:
    """Reads and validates a ledger.

    Raises:
        InputError: If the file is unreadable, or a row has an unknown key or one that does not fit.
    """
    content = read_yaml(path, f"ledger {path}")
    try:
        return Ledger.model_validate(content)
    except ValidationError as error:
        raise _explain(error, path) from None


def measure(claim: Claim, summary: Summary) -> Measured | None:
    """What the claim is about, of one run: a value, a paired difference, or a ratio of values (without interval)."""
    measured = find(summary, claim.value)
    if claim.of is None or measured is None:
        return measured
    whole = find(summary, claim.of)
    if whole is None or not whole.mean or measured.mean is None:
        return None
    return Measured(mean=measured.mean / whole.mean, ci95=None)


def holds(claim: Claim, measured: Measured | None) -> bool | None:
    """Whether a value is what was claimed; None where that can't be said."""
    if measured is None or measured.mean is None:
        return None
    if claim.number is None:  # better, not_worse
        return measured.ci95[0] > -(claim.tolerance or 0) if measured.ci95 is not None else None
    tolerance = (claim.tolerance or 0) + ROUNDING
    if claim.rule == "within":
        return abs(measured.mean - claim.number) <= tolerance
    return measured.mean >= claim.number - tolerance


def verdicts(ledger: Ledger, summaries: Mapping[str, Summary]) -> pd.DataFrame:
    """Every claim against every run.

    Args:
        ledger: The claims.
        summaries: Name of a run → its summary.

    Returns:
        The columns of a claim with `wanted`, and place, run, profile, mean, low, high, verdict; a row for each claim
        and run, and one with run "" where none was made on the data set of the claim.
    """
    rows = []
    for claim in ledger.claims:
        texts = {key: getattr(claim, key) or "" for key in ("source", "of", "because")}
        about = {**claim.model_dump(), **texts, "wanted": claim.wanted}
        mine = [_verdict(claim, name, summary, ledger) for name, summary in summaries.items()]
        if claim.dataset not in [row["place"] for row in mine]:
            nothing = dict.fromkeys(("mean", "low", "high"))
            mine.insert(0, {"place": claim.dataset, "run": "", "profile": "", **nothing, "verdict": NOT_RUN})
        rows += [about | row for row in mine]
    return pd.DataFrame(rows)


def _verdict(claim: Claim, run: str, summary: Summary, ledger: Ledger) -> dict[str, Any]:
    place, measured = place_of(summary), measure(claim, summary)
    answer = holds(claim, measured) if summary["profile"] not in ledger.not_judged else None
    yes, no, unknown = (PASS, FAIL, NOT_RUN) if place == claim.dataset else (YES, NO, NOT_SEEN)
    low, high = measured.ci95 if measured and measured.ci95 else (None, None)
    value = {"mean": measured.mean if measured else None, "low": low, "high": high}
    verdict = {True: yes, False: no, None: unknown}[answer]
    return {"place": place, "run": run, "profile": summary["profile"], **value, "verdict": verdict}


def _explain(error: ValidationError, path: Path) -> InputError:
    """One line for the first thing that pydantic found."""
    first = first_error(error)
    where = " ".join(str(part) for part in first["loc"])
    what = f"ledger {path.name}{f', {where}' if where else ''}"
    if first["type"] == "extra_forbidden":
        model = Claim if first["loc"][0] == "claims" else Ledger
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(model.model_fields)}."
        return InputError(what, "an unknown key", "a key of the ledger", remedy)
    got = first["msg"] if first["type"] == "value_error" else f"{repr(first['input'])[:60]} ({first['msg']})"
    return InputError(what, got, "a row that can be judged", "Mend it.")

"""Claims, their rules, and verdicts from the results of runs.

A claim is tested on the data set for which it was made: there a run gets PASS or FAIL, and NOT RUN if there is no run.
On other data, e.g. phantoms, the verdict is only whether the claim holds *there*: "yes" or "no".
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hgisam.config.overrides import first_error, read_yaml
from hgisam.errors import InputError
from hgisam_book.ledger.summary_query import Finite, Measured, Summary, data_of, find_value

SHIPPED = Path(__file__).with_suffix(".yaml")
PASS, FAIL, NOT_RUN = "PASS", "FAIL", "NOT RUN"  # on the data set of the claim
YES, NO, UNKNOWN = "yes", "no", "not run"  # on other data
ROUNDING = 1e-9  # 0.407 − 0.367 is not quite 0.04
# required keys of each rule; at_least also accepts `tolerance`
NEEDS: dict[str, set[str]] = {
    "at_least": {"number"},
    "within": {"number", "tolerance"},
    "better": set(),
    "not_worse": {"tolerance"},
    "share_of": {"number", "of"},
}
Text = Annotated[str, Field(min_length=1)]


class Claim(BaseModel):
    """A claim: one row of the ledger.

    Attributes:
        id: Short name.
        kind: "published" by the authors of the method, by a "peer" on the same data, or an "own target".
        claim: The claim in our words.
        source: Citation key in `book/references.bib`.
        dataset: Data set of the claim.
        rule: "at_least": value ≥ number − tolerance. "within": |value − number| ≤ tolerance. "better": the 95 %
            confidence interval of a paired difference is above 0 (superiority). "not_worse": it is above −tolerance,
            the non-inferiority margin. "share_of": value ≥ number × the value of another query.
        value: Query of the value in the summary of a run; see `hgisam_book.ledger.summary_query.find_value`.
        of: Query of the other value, for "share_of".
        number: Published value, or our target.
        unit: Unit of number and value.
        tolerance: Tolerance or margin, in that unit.
        because: Reason for the tolerance.
        see: Page of the book that shows the value, with the anchor of its section.
        explanation: Possible reasons for a failure; shown only where the claim fails.
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
            required = ", ".join(sorted(NEEDS[self.rule])) or "neither number, tolerance nor of"
            raise ValueError(f"the rule {self.rule} requires {required}")
        if (self.tolerance is None) != (self.because is None):
            raise ValueError("a tolerance requires a reason, in the key because")
        if self.kind != "own target" and self.source is None:
            raise ValueError("a published or peer claim requires a source")
        return self

    @property
    def target(self) -> str:
        """Condition that the value has to meet, as text."""
        number, tolerance = (f"{value:g}" if value is not None else "" for value in (self.number, self.tolerance))
        return {
            "at_least": f"≥ {number} − {tolerance}" if tolerance else f"≥ {number}",
            "within": f"{number} ± {tolerance}",
            "better": "interval > 0",
            "not_worse": f"interval > −{tolerance}",
            "share_of": f"≥ {number}",
        }[self.rule]


class Ledger(BaseModel):
    """All claims of the ledger.

    Attributes:
        not_judged: Profiles whose values are shown without a verdict.
        claims: The claims, in the order of the tables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_judged: list[str]
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        ids = [claim.id for claim in self.claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"the id {twice[0]} is not unique")
        return self


def load_ledger(path: str | Path = SHIPPED) -> Ledger:
    """Read and validate a ledger.

    Args:
        path: YAML file; by default the ledger of the book.

    Raises:
        InputError: If the file is unreadable, or a claim has an unknown key or an invalid value.
    """
    path = Path(path)
    content = read_yaml(path, f"ledger {path}")
    try:
        return Ledger.model_validate(content)
    except ValidationError as error:
        raise _explain(error, path) from None


def measured_value(claim: Claim, summary: Summary) -> Measured | None:
    """Value that a run measured for a claim: an estimate, a paired difference, or a ratio (without an interval)."""
    measured = find_value(summary, claim.value)
    if claim.of is None or measured is None:
        return measured
    whole = find_value(summary, claim.of)
    if whole is None or not whole.mean or measured.mean is None:
        return None
    return Measured(mean=measured.mean / whole.mean, ci95=None)


def holds(claim: Claim, measured: Measured | None) -> bool | None:
    """True if a value meets the claim, False if not, None if there is no value or no interval."""
    if measured is None or measured.mean is None:
        return None
    if claim.number is None:  # better, not_worse
        return measured.ci95[0] > -(claim.tolerance or 0) if measured.ci95 is not None else None
    tolerance = (claim.tolerance or 0) + ROUNDING
    if claim.rule == "within":
        return abs(measured.mean - claim.number) <= tolerance
    return measured.mean >= claim.number - tolerance


def verdicts(ledger: Ledger, summaries: Mapping[str, Summary]) -> pd.DataFrame:
    """Compare every claim with every run.

    Args:
        ledger: The claims.
        summaries: Name of a run → its summary.

    Returns:
        One row per claim and run, and one with run "" for a claim without a run on its data set. Columns: those of a
        claim, target, data, run, profile, mean, low, high, verdict.
    """
    rows = []
    for claim in ledger.claims:
        texts = {key: getattr(claim, key) or "" for key in ("source", "of", "because")}
        about = {**claim.model_dump(), **texts, "target": claim.target}
        mine = [_verdict(claim, name, summary, ledger) for name, summary in summaries.items()]
        if claim.dataset not in [row["data"] for row in mine]:
            nothing = dict.fromkeys(("mean", "low", "high"))
            mine.insert(0, {"data": claim.dataset, "run": "", "profile": "", **nothing, "verdict": NOT_RUN})
        rows += [about | row for row in mine]
    return pd.DataFrame(rows)


def _verdict(claim: Claim, run: str, summary: Summary, ledger: Ledger) -> dict[str, Any]:
    data, measured = data_of(summary), measured_value(claim, summary)
    answer = holds(claim, measured) if summary["profile"] not in ledger.not_judged else None
    yes, no, unknown = (PASS, FAIL, NOT_RUN) if data == claim.dataset else (YES, NO, UNKNOWN)
    low, high = measured.ci95 if measured and measured.ci95 else (None, None)
    value = {"mean": measured.mean if measured else None, "low": low, "high": high}
    verdict = {True: yes, False: no, None: unknown}[answer]
    return {"data": data, "run": run, "profile": summary["profile"], **value, "verdict": verdict}


def _explain(error: ValidationError, path: Path) -> InputError:
    """Error in one line for the first problem that pydantic found."""
    first = first_error(error)
    where = " ".join(str(part) for part in first["loc"])
    what = f"ledger {path.name}{f', {where}' if where else ''}"
    if first["type"] == "extra_forbidden":
        model = Claim if first["loc"][0] == "claims" else Ledger
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(model.model_fields)}."
        return InputError(what, "an unknown key", "a key of the ledger", remedy)
    got = first["msg"] if first["type"] == "value_error" else f"{repr(first['input'])[:60]} ({first['msg']})"
    return InputError(what, got, "a valid claim", "Fix it.")

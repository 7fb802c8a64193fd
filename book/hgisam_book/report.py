"""Text of the notebooks: notes, estimates with confidence intervals, tables, and the manifest at the end of a page."""

import html
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.evaluation.score_maps import MASK_RULES
from hgisam.runs.manifest import environment, read_manifest
from hgisam_book.figures import HU_METHODS, METHOD_NAMES
from hgisam_book.hardware import hardware_words

ROUNDING = 0.0005  # of Dice: printed as 0.000
PHANTOM_NOTE = (
    "> **Synthetic patients.** The studies on this page are phantoms. They exercise the whole method, but results on "
    "phantoms do not reproduce the figures published for CT-ICH and say nothing about patients."
)
SMOKE_NOTE = (
    "> **Smoke profile.** This page only proves that every step works. Its numbers mean nothing: "
    "they come from too few patients, too few pixels and too few epochs."
)


def notes(profile: Profile, *, phantom: bool, cohort: PreparedDataset | None = None) -> Markdown:
    """Caveats at the top of a page: profile, synthetic patients, smoke profile, excerpt of the training cohort.

    Args:
        profile: The resolved profile.
        phantom: True if the studies are synthetic.
        cohort: The prepared training cohort, if the page shows it.
    """
    header = (
        f"> Made with the profile `{profile.name}`: slices of {profile.data.image_px} × {profile.data.image_px} pixels."
    )
    parts = [header, PHANTOM_NOTE if phantom else "", SMOKE_NOTE if profile.name == "smoke" else ""]
    if cohort is not None and cohort.is_phantom and (absent := cohort.meta.get("absent_patients", 0)):
        made = cohort.slices["patient"].nunique()
        parts.append(f"> {excerpt_note(made, made + absent)}")
    return Markdown("\n>\n".join(part for part in parts if part))  # type: ignore[no-untyped-call]


def excerpt_note(made: int, whole: int) -> str:
    """Markdown sentences about an excerpt of the training cohort; "" of a whole one.

    Args:
        made: Patients of the run.
        whole: Patients on whom its networks were trained.
    """
    if made >= whole:
        return ""
    return (
        f"**Of the training cohort, these are {made} of {whole} patients**, in the split of all {whole}. The networks "
        "of this run come from a recorded run, where they were trained on all patients; this run makes no more of them "
        "than its pages show. `make book TRAIN=all` makes all patients and trains every network."
    )


def estimate(value: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Format `{"mean", "ci95"}` as "0.51 (0.45 to 0.57)"; "–" if there is no value."""
    if not value or value.get("mean") is None:
        return "–"
    text = f"{value['mean']:.{digits}f}"
    if value.get("ci95"):
        low, high = value["ci95"]
        text += f" ({low:.{digits}f} to {high:.{digits}f})"
    return text


def listed(table: pd.DataFrame, row: str, separator: str = "; ") -> str:
    """Rows of a table as text, e.g. for an alternative text.

    Args:
        table: Any table.
        row: Format of one row, with names of columns as fields, e.g. "{label} {mean:.2f}".
        separator: Text between rows.
    """
    return separator.join(row.format_map(record) for record in table.to_dict("records"))


def p_value(value: float | None) -> str:
    """Format a p-value: "0.031", "< 0.001", or "–" where no test was made (None or NaN)."""
    if value is None or math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def equivalent_scans(found: Mapping[str, Any], largest: float) -> str:
    """Number of annotated scans at which a supervised method reaches the weakly supervised one, with its interval.

    Args:
        found: From `hgisam_book.studies.label_budget.equivalent_scans_interval`.
        largest: Annotated scans of the largest budget.
    """

    def scans(value: float | None) -> str:
        return f"more than {largest:.0f}" if value is None else f"{value:.1f}"

    return f"{scans(found['scans'])} annotated scans (95 % interval {' to '.join(map(scans, found['ci95']))})"


def detection_table(detection: Mapping[str, Any]) -> pd.DataFrame:
    """Table of `summary["detection"]`, one row per model."""
    columns = {
        "auroc": "AUROC",
        "auprc": "AUPRC",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "f1": "F1",
    }
    rows = {
        name: {title: estimate(values.get(key)) for key, title in columns.items()} for name, values in detection.items()
    }
    return pd.DataFrame(rows).T


def segmentation_table(segmentation: Mapping[str, Any], *, gated: bool = False) -> pd.DataFrame:
    """Table of `summary["segmentation"]`, one row per method.

    Args:
        segmentation: Method → metrics.
        gated: Use the metrics with empty masks on slices that the classifier predicts as not bleeding.
    """
    suffix = "_gated" if gated else ""
    columns = {
        "dice_slice": "Dice per slice",
        "iou_slice": "IoU per slice",
        "dice_scan": "Dice per scan",
        "false_positive_ml": "false positive volume in ml per negative scan",
    }
    rows = {}
    for method, figures in segmentation.items():
        cells = {title: estimate(figures.get(key + suffix), 1 if "ml" in key else 2) for key, title in columns.items()}
        rows[METHOD_NAMES.get(method, method)] = {"threshold": _threshold(method, figures), **cells}
    return pd.DataFrame(rows).T


def _threshold(method: str, figures: Mapping[str, Any]) -> str:
    """Threshold of a method: one number, or the range over the folds."""
    if method in MASK_RULES:
        return "none"
    used = figures.get("thresholds_by_fold", [figures["threshold"]])
    unit = " HU" if method in HU_METHODS else ""
    return " to ".join(f"{value:.3g}" for value in sorted({min(used), max(used)})) + unit


def error_table(segmentation: Mapping[str, Any], *, gated: bool = False) -> pd.DataFrame:
    """Table of surface distances and volume errors, one row per method; arguments as for `segmentation_table`."""
    suffix = "_gated" if gated else ""
    rows = {}
    for method, figures in segmentation.items():
        undefined = figures[f"n_hd95_undefined{suffix}"]
        rows[METHOD_NAMES.get(method, method)] = {
            "HD95 per slice in mm": estimate(figures[f"hd95_mm_slice{suffix}"], 1),
            "slices without HD95": f"{undefined} of {figures['n_slices']}",
            "volume error in ml": estimate(figures[f"volume_error_ml{suffix}"], 1),
            "absolute volume error in ml": estimate(figures[f"absolute_volume_error_ml{suffix}"], 1),
            "relative volume error": estimate(figures[f"relative_volume_error{suffix}"]),
        }
    return pd.DataFrame(rows).T


def groups_table(segmentation: Mapping[str, Any], key: str, names: Mapping[str, str]) -> pd.DataFrame:
    """Table of a metric by groups of slices or scans: one row per method, one column per group.

    Args:
        segmentation: Method → metrics.
        key: Metric by group, e.g. "dice_by_type".
        names: Group → title of its column.
    """
    rows = {
        METHOD_NAMES.get(method, method): {title: estimate(figures[key][name]) for name, title in names.items()}
        for method, figures in segmentation.items()
    }
    return pd.DataFrame(rows).T


def interval_rows(segmentation: Mapping[str, Any], figures: Mapping[str, str]) -> pd.DataFrame:
    """Estimates as rows for `figures.intervals`.

    Args:
        segmentation: Method → metrics.
        figures: Key, e.g. "dice_slice" or "dice_by_type.subdural", → label.
    """
    rows = []
    for key, label in figures.items():
        for method, values in segmentation.items():
            value: Any = values
            for part in key.split("."):
                value = value[part]
            if value["mean"] is not None and value["ci95"]:
                low, high = value["ci95"]
                rows.append({"label": label, "method": method, "mean": value["mean"], "low": low, "high": high})
    return pd.DataFrame(rows, columns=["label", "method", "mean", "low", "high"])


def method_rows(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """Table of `compare_methods` as rows for `figures.intervals`: one label per method, all in one group."""
    return table.rename(METHOD_NAMES).rename_axis("label").reset_index().assign(method=group)


def outcome(comparison: Mapping[str, Any]) -> str:
    """Verdict on a paired comparison of a with b: "ahead", "behind" or "undecided".

    The rule of the whole book, as in the ledger: a is ahead if the 95 % interval of the paired difference a − b is
    above 0, behind if it is below. P-values after Holm's correction are shown beside it; they also depend on how many
    pairs a table has.
    """
    low, high = comparison["ci95"] or (0.0, 0.0)
    return "ahead" if low > 0 else "behind" if high < 0 else "undecided"


def outcomes(comparisons: Iterable[Mapping[str, Any]], method: str) -> str:
    """Wins, losses and ties of a method: "ahead of 1 (GradCAM), behind 2 (U-Net; Swin-UNETR), undecided with 0".

    Args:
        comparisons: `summary["comparisons"]`; those without the method don't count.
        method: Name of the method in them.
    """
    others: dict[str, list[str]] = {"ahead": [], "behind": [], "undecided": []}
    swapped = {"ahead": "behind", "behind": "ahead", "undecided": "undecided"}
    for pair in comparisons:
        if method in (pair["a"], pair["b"]):
            other, found = (pair["b"], outcome(pair)) if pair["a"] == method else (pair["a"], swapped[outcome(pair)])
            others[found].append(METHOD_NAMES.get(other, other))
    words = {"ahead": "ahead of", "behind": "behind", "undecided": "undecided with"}
    listed = {key: f" ({'; '.join(names)})" if names else "" for key, names in others.items()}
    return ", ".join(f"{words[key]} {len(names)}{listed[key]}" for key, names in others.items())


def not_corrected(comparisons: Iterable[Mapping[str, Any]], *, significant: float = 0.05) -> str:
    """Pairs whose interval excludes 0 although the p-value after Holm's correction is not small; "none" for none.

    Args:
        comparisons: With `ci95` and `p_holm`.
        significant: Significance level.
    """
    pairs = [
        " and ".join(METHOD_NAMES.get(pair[key], pair[key]) for key in "ab")
        for pair in comparisons
        if outcome(pair) != "undecided" and (pair["p_holm"] is None or pair["p_holm"] >= significant)
    ]
    return "; ".join(pairs) or "none"


def at_grid_ends(chosen: Mapping[str, Mapping[str, Any]]) -> str:
    """Methods with a threshold at an end of the thresholds that were tried; "none" for none.

    There the best threshold may lie outside, so that the method looks worse than it is.

    Args:
        chosen: Method → `threshold`, `grid`, and `folds` where each fold has its own; from `thresholds.json`.
    """
    found = []
    for name, about in chosen.items():
        used, ends = about.get("folds", [about["threshold"]]), {about["grid"][0], about["grid"][-1]}
        count = sum(value in ends for value in used)
        if count and len(about["grid"]) > 1:
            found.append(f"{METHOD_NAMES.get(name, name)} ({count} of {len(used)})")
    return "; ".join(found) or "none"


def comparison_table(comparisons: list[dict[str, Any]], *, tests: int | None = None) -> pd.DataFrame:
    """Table of `summary["comparisons"]`, one row per pair of methods.

    Args:
        comparisons: The pairs of the table.
        tests: Number of pairs that Holm's correction covers; None for those of the table.
    """
    corrected = f"p, Holm for {len(comparisons) if tests is None else tests} pairs"
    rows = [
        {
            "comparison": f"{METHOD_NAMES.get(c['a'], c['a'])} − {METHOD_NAMES.get(c['b'], c['b'])}",
            "difference of Dice": estimate({"mean": c["difference"], "ci95": c["ci95"]}, 3),
            "p": p_value(c["p_value"]),
            corrected: p_value(c.get("p_holm")),
            "effect size": "–" if c.get("effect_size") is None else f"{c['effect_size']:+.2f}",
            "patients": c.get("n_patients"),
        }
        for c in comparisons
    ]
    return pd.DataFrame(rows).set_index("comparison").rename_axis(None) if rows else pd.DataFrame()


def comparison_matrix(comparisons: list[dict[str, Any]], *, significant: float = 0.05) -> pd.DataFrame:
    """Matrix of `summary["comparisons"]`: the mean difference of Dice, row minus column.

    Args:
        comparisons: Each pair once.
        significant: Significance level; a smaller p-value after Holm's correction gets a star.

    Returns:
        One row and one column per method, as text.
    """
    methods = list(dict.fromkeys(name for c in comparisons for name in (c["a"], c["b"])))
    names = [METHOD_NAMES.get(method, method) for method in methods]
    table = pd.DataFrame("", index=names, columns=names)
    for c in comparisons:
        a, b = (METHOD_NAMES.get(c[key], c[key]) for key in "ab")
        star = " *" if c["p_holm"] is not None and c["p_holm"] < significant else ""
        signed = [c["difference"], -c["difference"]] if c["difference"] is not None else []
        table.loc[a, b], table.loc[b, a] = [f"{value:+.2f}{star}" for value in signed] or ["–", "–"]
    return table


def ablation_table(table: pd.DataFrame) -> pd.DataFrame:
    """Table of ablations: the change, the threshold, Dice and the paired difference, one row per variant.

    Args:
        table: From `hgisam_book.studies.ablation.ablate`.
    """
    rows = {}
    for name, row in table.iterrows():
        cells = {
            key: estimate({"mean": row[mean], "ci95": [row[low], row[high]]}, digits)
            for key, mean, low, high, digits in (
                ("Dice per slice", "mean", "low", "high", 2),
                ("difference", "difference", "difference_low", "difference_high", 3),
            )
        }
        numbers = {"p": p_value(row["p_value"]), "p, Holm": p_value(row["p_holm"])}
        rows[name] = {"change": row["changes"], "threshold": f"{row['threshold']:.2g}", **cells, **numbers}
        rows[name] |= {"compared with": row["against"]}
    return pd.DataFrame(rows).T


def ablation_outcomes(table: pd.DataFrame, *, significant: float = 0.05) -> str:
    """Wins, losses and ties of ablations, as list items; a star where p after Holm's correction is small too.

    A difference that is 0.000 in print is rounding: it is listed as undecided, without a star, whatever its p.

    Args:
        table: From `hgisam_book.studies.ablation.ablate`; its reference rows don't count.
        significant: Significance level.
    """
    rows: dict[str, list[str]] = {"behind": [], "ahead": [], "undecided": []}
    for name, row in table[table["group"] != "reference"].sort_values("difference").iterrows():
        real = abs(row["difference"]) >= ROUNDING
        found = outcome({"ci95": [row["difference_low"], row["difference_high"]]}) if real else "undecided"
        star = " *" if real and row["p_holm"] < significant else ""
        rows[found].append(f"{name} ({row['difference']:+.3f}){star}")
    words = {"behind": "Worse with the change", "ahead": "Better with the change", "undecided": "Undecided"}
    return "\n".join(f"- {words[found]}: {'; '.join(names) or 'none'}." for found, names in rows.items())


def difference_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of ablations as rows for `figures.intervals`, without the reference rows."""
    rows = table[table["group"] != "reference"]
    columns = {"mean": "difference", "low": "difference_low", "high": "difference_high"}
    return pd.DataFrame({"label": rows.index, "method": "difference", **{k: rows[v].array for k, v in columns.items()}})


def manifest(profile: Profile, *folders: str | Path, **hashes: str) -> HTML:
    """Collapsed table at the end of a page: profile, seed, code, packages, machine, and hashes of inputs and outputs.

    Args:
        profile: The resolved profile.
        folders: Folders of finished steps that the page ran or shows; each has its own manifest.
        hashes: Name → SHA-256 of further files that the page read or wrote.
    """
    here = environment()
    rows = {
        "profile": profile.name,
        "seed": str(profile.seed),
        "git revision": here["git_revision"] or "not a git checkout",
        "code": f"sha256 {here['code_hash'][:16]}",
        "python": here["python"],
        "packages": ", ".join(f"{name} {version}" for name, version in here["packages"].items()),
        "machine": hardware_words(here["hardware"]),
    }
    for folder in folders:
        about = read_manifest(Path(folder))
        rows[f"step {about['step']}"] = f"started {about['started']}, took {about['duration_s']:.0f} s"
        rows |= {f"read: {name}": f"sha256 {digest[:16]}" for name, digest in about["inputs"].items()}
        rows |= {f"wrote: {name}": f"sha256 {digest[:16]}" for name, digest in about["outputs"].items()}
    rows |= {name.replace("_", " "): f"sha256 {digest[:16]}" for name, digest in hashes.items()}
    body = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows.items())
    text = f"<details><summary>How this page was made</summary><table>{body}</table></details>"
    return HTML(text)  # type: ignore[no-untyped-call]

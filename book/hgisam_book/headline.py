"""The numbers that README and pages open with, as Markdown, all from the summary of one run.

The first page of the book fills its blocks with its own run, README and "What was tried" with the recorded one
(`ci/write_numbers.py`), so that no number is typed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hgisam.errors import InputError
from hgisam.evaluation.score_maps import THRESHOLD_BASELINES
from hgisam_book.figures import METHOD_NAMES
from hgisam_book.ledger import FAIL, PASS, data_of, find_value, load_ledger, verdicts
from hgisam_book.ledger.tables import value_words
from hgisam_book.report import SMOKE_NOTE, estimate, outcome, outcomes

BLOCK = re.compile(r"(?P<start><!-- numbers: (?P<name>[\w ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
SUPERVISION = {
    "hgi_sam": "slice labels",
    "hgi_sam_averaged": "slice labels",
    "swin_sam": "slice labels",
    "grad_cam": "slice labels",
    "hgi_sam_refined": "slice labels",
    "unet": "pixel annotations",
    "unet_published": "pixel annotations",
    "swin_unetr": "pixel annotations",
    "hu_threshold": "no training",
    "smooth_hu_threshold": "no training",
}
MET = {PASS: "met", FAIL: "missed"}


def results(summary: Mapping[str, Any]) -> str:
    """Detection and segmentation of a run: a sentence, and a table of methods that exist in it.

    A run of the smoke profile has a note that its numbers mean nothing.

    Args:
        summary: `summary.json` of a run with masks.
    """
    detection, segmentation = summary["detection"]["swin"], summary["segmentation"]
    data = "phantoms" if data_of(summary) == "phantom" else "patients"
    found = (
        f"{detection['n_patients']} {data}, {detection['n_positive']:,} bleeding slices; 95 % bootstrap intervals over "
        f"{data}. Slice AUROC of the classifier: {estimate(detection['auroc'])}."
    )
    if summary["profile"] == "smoke":
        found = f"{SMOKE_NOTE}\n\n{found}"
    if not segmentation:
        return found
    rows = [
        f"| {METHOD_NAMES[method]} | {supervision} | {estimate(segmentation[method]['dice_slice'])} |"
        for method, supervision in SUPERVISION.items()
        if method in segmentation
    ]
    table = ["| method | supervision of the network | Dice per bleeding slice |", "| --- | --- | --- |", *rows]
    rule = "Each slice is measured at a threshold chosen on another fold of patients with masks."
    compared = f"Compared on the same {data}, HGI-SAM is {outcomes(summary['comparisons'], 'hgi_sam')}."
    return "\n".join([found, "", *table, "", f"{rule} {compared}"])


def targets(summary: Mapping[str, Any]) -> str:
    """Table of the ledger's own targets that a run on phantoms met or missed."""
    found = verdicts(load_ledger(), {"recorded": summary})
    own = found[(found["kind"] == "own target") & (found["run"] == "recorded") & (found["data"] == found["dataset"])]
    rows = [
        f"| {row['claim']} | {value_words(row, 2)} | {row['target']} | {MET.get(row['verdict'], 'not measured')} |"
        for row in own.to_dict("records")
    ]
    return "\n".join(["| target | measured | required | |", "| --- | --- | --- | --- |", *rows])


def findings(summary: Mapping[str, Any]) -> str:
    """What a run on phantoms found, one item each: the figure, its interval, what it can't say, and where it is from.

    Args:
        summary: `summary.json` of a run with all methods and the study of tasks.

    Raises:
        InputError: If the run lacks one of them.
    """
    needed = ("hgi_sam", "swin_sam", "hgi_sam_refined", "unet", *THRESHOLD_BASELINES)
    missing = sorted({*needed} - summary["segmentation"].keys())
    if missing or "binary_vs_subtype" not in summary.get("studies", {}):
        got = f"no {(missing or ['study of tasks'])[0]}"
        raise InputError("summary of the run", got, "all methods and studies", "Run all chapters, and record the run.")
    dice = {name: found["dice_slice"] for name, found in summary["segmentation"].items()}
    study = summary["studies"]["binary_vs_subtype"]
    task, shares = study["hgi_sam"], study["hgi_sam"]["shares"]
    of_unet = dice["hgi_sam_refined"]["mean"] / dice["unet"]["mean"]
    items = [
        "**The classifier.** On phantoms of a scanner that it was not trained on, it has a slice AUROC of "
        f"{estimate(summary['detection']['swin']['auroc'])}. One training; those of other seeds differ: "
        "{doc}`what_was_tried`",
        f"**HGI-SAM and its predecessor.** Dice {estimate(dice['hgi_sam'])} with the gradient, "
        f"{estimate(dice['swin_sam'])} without (Swin-SAM): {_pair(summary, 'hgi_sam', 'swin_sam')}. "
        "{doc}`13_ablations` asks whether the gradient, or the network's training, makes the difference.",
        f"**A threshold.** The best threshold on HU has Dice {estimate(dice['hu_threshold'])}, on smoothed HU "
        f"{estimate(dice['smooth_hu_threshold'])}. Against the smoothed one HGI-SAM is "
        f"{_pair(summary, 'hgi_sam', 'smooth_hu_threshold')}. Both thresholds, like those of maps, are chosen on "
        "masks of other patients. {doc}`06_results`",
        f"**Refinement.** Map and density together, and a network trained on them, have Dice "
        f"{estimate(dice['hgi_sam_refined'])}, {of_unet:.0%} of the U-Net's {estimate(dice['unet'])}; against density "
        f"alone {_pair(summary, 'hgi_sam_refined', 'density_alone')}. {{doc}}`12_refined_maps`",
        f"**Binary or subtype labels.** Over {len(study['seeds'])} seeds each, binary minus subtype is "
        f"{estimate(task['difference'], 3)} in Dice of HGI-SAM; {shares['seed']:.0%} of the variance of the means is "
        f"between seeds, {shares['task']:.0%} between tasks. {{doc}}`10_binary_or_subtype`",
    ]
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))


def real_heads(record: Mapping[str, Any]) -> str:
    """Sentences on real heads, from `book/recorded/real_heads.json`."""
    bleeding, normal = record["bleeding"], record["normal"]
    dice = {name: f"{method['dice']:.2f}" for name, method in bleeding["methods"].items()}
    slices, above = (sum(head[key] for head in normal) for key in ("slices", "above_operating_point"))
    return (
        f"On {bleeding['slices']} real slices with a bleed, the shipped classifier, trained on phantoms and on no "
        f"patient, reaches Dice {dice['hgi_sam']} with HGI-SAM, {dice['hgi_sam_averaged']} averaged over shifted "
        f"images and {dice['hgi_sam_density']} fused with the density of blood; the best HU threshold reaches "
        f"{dice['hu_threshold']}, smoothed {dice['smooth_hu_threshold']}, each at the one threshold that is best for "
        f"these slices. It takes {above} of {slices} slices of {len(normal)} real heads without a bleed for one; "
        f"slice AUROC {record['auroc']:.2f}."
    )


def blocks_in(text: str) -> Iterator[str]:
    """Names of the blocks of a page, in order."""
    return (found["name"] for found in BLOCK.finditer(text))


def fill(text: str, blocks: Mapping[str, str], *, page: str) -> str:
    """Replace the content of each `<!-- numbers: NAME --> … <!-- end -->` of a page.

    Args:
        text: The page.
        blocks: Name → Markdown.
        page: Name of the page, for errors.

    Raises:
        InputError: If a block has an unknown name.
    """
    if unknown := [name for name in blocks_in(text) if name not in blocks]:
        raise InputError(f"page {page}", f"a block {unknown[0]}", f"one of {', '.join(blocks)}", "Correct its name.")
    return BLOCK.sub(lambda found: f"{found['start']}\n{blocks[found['name']]}\n\n{found['end']}", text)


def _pair(summary: Mapping[str, Any], a: str, b: str) -> str:
    """Outcome of a against b with the paired difference, e.g. "ahead, by 0.03 (0.01 to 0.05)"."""
    found = find_value(summary, f"comparisons.{a}.{b}")
    if found is None or found.mean is None:
        return "not compared"
    pair = {"mean": found.mean, "ci95": found.ci95}
    return f"{outcome(pair)}, paired difference {estimate(pair)}"

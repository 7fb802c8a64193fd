"""The numbers that README and pages open with, as Markdown, all from the summary of one run.

The first page of the book fills its blocks with its own run, README and "What was tried" with the recorded one
(`ci/write_numbers.py`), so that no number is typed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hgisam.errors import InputError
from hgisam.evaluation.score_maps import MASK_RULES, THRESHOLD_BASELINES
from hgisam_book.figures import METHOD_NAMES, ladder_name
from hgisam_book.ledger import FAIL, PASS, data_of, find_value, load_ledger, verdicts
from hgisam_book.ledger.tables import value_words
from hgisam_book.report import SMOKE_NOTE, estimate, outcome, outcomes
from hgisam_book.studies.prices import label_of
from hgisam_book.studies.real_heads import LEAD, fused_ahead_of_density

BLOCK = re.compile(r"(?P<start><!-- numbers: (?P<name>[\w ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
SUPERVISION = {
    "hgi_sam": "slice labels",
    "hgi_sam_averaged": "slice labels",
    "swin_sam": "slice labels",
    "grad_cam": "slice labels",
    "hgi_sam_density": "slice labels",
    "hgi_sam_self_trained": "slice labels",
    "hgi_sam_refined": "slice labels",
    "unet": "pixel annotations",
    "unet_published": "pixel annotations",
    "swin_unetr": "pixel annotations",
    "hu_threshold": "no training",
    "smooth_hu_threshold": "no training",
    "density_alone": "no training",
}
WITHOUT_MASKS = ("hgi_sam", "hgi_sam_density", "hgi_sam_self_trained", "hgi_sam_refined")  # training, not threshold
WITH_MASKS = ("unet", "unet_published", "swin_unetr")
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
    needed = (*WITHOUT_MASKS, "swin_sam", "density_alone", "unet", *THRESHOLD_BASELINES)
    missing = sorted({*needed} - summary["segmentation"].keys())
    if missing or "binary_vs_subtype" not in summary.get("studies", {}):
        got = f"no {(missing or ['study of tasks'])[0]}"
        raise InputError("summary of the run", got, "all methods and studies", "Run all chapters, and record the run.")
    dice = {name: found["dice_slice"] for name, found in summary["segmentation"].items()}
    study = summary["studies"]["binary_vs_subtype"]
    task, shares = study["hgi_sam"], study["hgi_sam"]["shares"]
    by_seed = task["by_seed"].values()
    one_sided = all(value > 0 for value in by_seed) or all(value < 0 for value in by_seed)
    best, masks = (max((m for m in group if m in dice), key=_mean_of(dice)) for group in (WITHOUT_MASKS, WITH_MASKS))
    of_masks = dice[best]["mean"] / dice[masks]["mean"]
    items = [
        "**The classifier.** On phantoms of a scanner that it was not trained on, it has a slice AUROC of "
        f"{estimate(summary['detection']['swin']['auroc'])}. This is one training; the mean of {len(study['seeds'])} "
        f"shorter ones is {estimate(study['auroc']['binary'])}. {{doc}}`10_binary_or_subtype`",
        f"**HGI-SAM and its predecessor.** Dice {estimate(dice['hgi_sam'])} with the gradient, "
        f"{estimate(dice['swin_sam'])} without (Swin-SAM): {pair_words(summary, 'hgi_sam', 'swin_sam')}. "
        f"{_lead_of_other_seeds(summary, study)} Whether the maps need the trained head at all is a question of "
        "{doc}`13_ablations`.",
        f"**A threshold.** The best threshold on HU has Dice {estimate(dice['hu_threshold'])}, on smoothed HU "
        f"{estimate(dice['smooth_hu_threshold'])}, on density, which is denoised HU, "
        f"{estimate(dice['density_alone'])}. HGI-SAM against the first: "
        f"{pair_words(summary, 'hgi_sam', 'hu_threshold')}; against the second: "
        f"{pair_words(summary, 'hgi_sam', 'smooth_hu_threshold')}; against density: "
        f"{pair_words(summary, 'hgi_sam', 'density_alone')}. All these thresholds, like those of maps, are chosen on "
        f"masks of other patients. {_without_thresholds(dice)} {{doc}}`06_results`",
        f"**Refinement.** The product of map and density has Dice {estimate(dice['hgi_sam_density'])}, a network "
        f"trained on pseudo-masks {estimate(dice['hgi_sam_self_trained'])}, the mean of both (refined) "
        f"{estimate(dice['hgi_sam_refined'])}. Against density alone: the product "
        f"{pair_words(summary, 'hgi_sam_density', 'density_alone')}; refined "
        f"{pair_words(summary, 'hgi_sam_refined', 'density_alone')}. Refined against the product: "
        f"{pair_words(summary, 'hgi_sam_refined', 'hgi_sam_density')}. {{doc}}`12_refined_maps`",
        f"**Masks.** Of the methods trained on slice labels the best is {METHOD_NAMES[best]}, of the networks trained "
        f"on masks {METHOD_NAMES[masks]}, {estimate(dice[masks])}: the first has {of_masks:.0%} of its Dice, "
        f"{pair_words(summary, best, masks)}. Both are the best of several on these very phantoms. "
        "{doc}`14_all_results`",
        f"**Binary or subtype labels.** Over {len(study['seeds'])} seeds each, binary minus subtype is "
        f"{estimate(task['difference'], 3)} in Dice of HGI-SAM; seed by seed "
        f"{', '.join(f'{value:+.3f}' for value in by_seed)}, "
        f"{'all' if one_sided else 'not all'} on one side of zero{'' if one_sided else ', so this is undecided'}. "
        f"{shares['seed']:.0%} of the variance of the means is between seeds, {shares['task']:.0%} between tasks. "
        "{doc}`10_binary_or_subtype`",
    ]
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1))


def real_heads(record: Mapping[str, Any]) -> str:
    """Sentences on real heads, from `book/recorded/real_heads.json`."""
    bleeding, normal = record["bleeding"], record["normal"]
    values = {name: method["dice"] for name, method in bleeding["methods"].items()}
    dice = {name: f"{value:.2f}" for name, value in values.items()}
    slices, above = (sum(head[key] for head in normal) for key in ("slices", "above_operating_point"))
    untrained = ("hu_threshold", "smooth_hu_threshold", "density_alone")
    beaten = sum(values["hgi_sam"] > values[name] for name in untrained)
    fused = "above" if values["hgi_sam_density"] > max(values[name] for name in untrained) else "not above"
    return (
        f"On {bleeding['slices']} real slices with a bleed, the shipped classifier, trained on phantoms and on no "
        f"patient, reaches Dice {dice['hgi_sam']} with HGI-SAM, {dice['hgi_sam_averaged']} averaged over shifted "
        f"images and {dice['hgi_sam_density']} fused with the density of blood. Without a network, the best HU "
        f"threshold reaches {dice['hu_threshold']}, smoothed {dice['smooth_hu_threshold']}, density alone "
        f"{dice['density_alone']}. Each is at the one threshold that is best for these slices, an upper bound, and has "
        f"no interval. {_calibrated(bleeding['calibrated'])}HGI-SAM is above {beaten} of the {len(untrained)} methods "
        f"without a network, the fused map {fused} all of them. "
        f"{_over_trainings(record)}The classifier takes {above} of {slices} slices of "
        f"{len(normal)} real heads without a bleed for one; slice AUROC {record['auroc']:.2f}. "
        f"{_ladder(record['recorded']['ladder'])}"
    )


def _over_trainings(record: Mapping[str, Any]) -> str:
    """A sentence: does the fused map add to density in the other trainings, too?"""
    trainings = 1 + len(record["recorded"]["trainings"])
    return (
        f"Of {trainings} trainings, that one among them, the fused map is ahead of density alone, by {LEAD} or more, "
        f"in {fused_ahead_of_density(record)}. "
    )


def _calibrated(methods: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence on masks at thresholds of phantoms; none for a network without calibration."""
    if not methods:
        return ""
    alone, fused = (methods[name] for name in ("hgi_sam", "hgi_sam_density"))
    return (
        f"At the thresholds that phantoms chose, which `hgisam segment` takes, HGI-SAM reaches {alone['dice']:.2f} and "
        f"the fused map {fused['dice']:.2f}, or {fused['dice_gated']:.2f} where a slice that is not predicted to bleed "
        "has no mask. "
    )


def _ladder(methods: Mapping[str, Mapping[str, float]]) -> str:
    """A sentence on the best methods of each kind of label, of the networks of the recorded run."""
    dice = {name: found["dice"] for name, found in methods.items()}
    masks = {name for name in dice if label_of(name) == "mask"}
    mixed = {name for name in dice if label_of(name) == "slice and mask"}
    best = [max(group, key=dice.__getitem__) for group in (dice.keys() - masks - mixed, masks, mixed) if group]
    told = [f"{ladder_name(name)} {dice[name]:.2f}" for name in best]
    return (
        f"Of the {len(dice)} methods of the ladder of labels, with networks of the recorded run, the best on these "
        f"slices without a mask, with masks, and with both kinds of label are {', '.join(told)}."
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


def pair_words(summary: Mapping[str, Any], a: str, b: str) -> str:
    """Outcome of a against b in a summary, e.g. "ahead, paired difference 0.03 (0.01 to 0.05)"."""
    found = find_value(summary, f"comparisons.{a}.{b}")
    if found is None or found.mean is None:
        return "not compared"
    pair = {"mean": found.mean, "ci95": found.ci95}
    return f"{outcome(pair)}, paired difference {estimate(pair)}"


def _mean_of(dice: Mapping[str, Any]) -> Callable[[str], float]:
    """Mean Dice of a method, as a key to sort by."""
    return lambda method: float(dice[method]["mean"])


def _lead_of_other_seeds(summary: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Sentence: does the lead of HGI-SAM on Swin-SAM hold for the networks of the study of tasks, of other seeds?"""
    ours, other = (study[name]["binary"] for name in ("hgi_sam", "swin_sam"))
    lead, pair = ours["mean"] - other["mean"], find_value(summary, "comparisons.hgi_sam.swin_sam")
    low, high = pair.ci95 if pair is not None and pair.ci95 else (lead, lead)
    words = "inside that interval" if low <= lead <= high else "outside that interval: the lead is that of one network"
    return (
        f"The means over the {len(study['seeds'])} shorter trainings with binary labels are {estimate(ours)} and "
        f"{estimate(other)}, a difference of {lead:+.3f}, {words}."
    )


def _without_thresholds(dice: Mapping[str, Any]) -> str:
    """Sentence about the rules of `MASK_RULES`, which need no threshold from masks; "" if a run has none."""
    found = [f"{METHOD_NAMES[name]} {estimate(dice[name])}" for name in MASK_RULES if name in dice]
    return f"Rules that need no mask: {', '.join(found)}; {{doc}}`14_all_results` has others." if found else ""

"""Studies of the book: the experiments of its chapters, on top of the core.

- `ablation`: HGI-SAM with one choice changed at a time, and the defects of the released code.
- `baselines`: supervised segmenters by k-fold cross-validation, and U-Nets trained on fewer scans.
- `beyond_dice`: false positives, AUROC and Dice of types of the methods of the ladder.
- `binary_or_subtype`: effect of binary and subtype labels on scores, maps and attention heads.
- `classifier_measurements`: scores, Dice of the maps and head contrasts of one classifier.
- `classifiers`: the steps of the study of binary and subtype labels.
- `coarse_labels`: exam labels, boxes and balls, made from masks and slice labels.
- `cross_validation`: masks of a segmenter, each slice by the network that held its fold out.
- `deletion_insertion`: deletion and insertion curves.
- `error_analysis`: calibration, confusion by subtype, sensitivity by lesion size, time to a target.
- `explanations`: every map method by criteria of explanations beside Dice, and whether they agree.
- `failure_causes`: one cause of failure per mask, and its false positives.
- `heads`: maps of single attention heads, and their contrast.
- `label_budget`: Dice against the number of annotated scans.
- `ladder`: Dice of methods that learn from exams, slices, boxes, balls and masks, on the same slices.
- `map_variants`: other fusion of blocks and stages, test-time augmentation, other brain masks.
- `method_comparison`: Dice of map methods on the bleeding slices of a set.
- `prices`: prices of labels, the labels that a method used, Dice beside the minutes of an annotator.
- `real_heads`: a classifier trained on phantoms, tested on real heads.
- `real_values`: values of head CT on real heads, and verdicts on those of phantoms.
- `realism`: statistics of head CT.
- `refinement`: pseudo-masks and self-training, without pixel annotations.
- `released_code`: maps of the released code, with its defects.
- `results`: evaluation of all methods of a run together.
- `sanity`: cascading randomization, shuffled labels, pointing game.
- `trainings`: the trainings of a study, in parallel.
- `without_masks`: Dice at thresholds that no annotated mask chose.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("book", "plotly")

if TYPE_CHECKING:
    from hgisam_book.studies.ablation import DEFAULT as DEFAULT
    from hgisam_book.studies.ablation import NOT_RUN as NOT_RUN
    from hgisam_book.studies.ablation import SLICES_PER_SPLIT as SLICES_PER_SPLIT
    from hgisam_book.studies.ablation import ablations_step as ablations_step
    from hgisam_book.studies.baselines import BASELINES as BASELINES
    from hgisam_book.studies.baselines import baseline_step as baseline_step
    from hgisam_book.studies.baselines import label_budget_step as label_budget_step
    from hgisam_book.studies.baselines import plan_budgets as plan_budgets
    from hgisam_book.studies.baselines import training_histories as training_histories
    from hgisam_book.studies.beyond_dice import ladder_measures as ladder_measures
    from hgisam_book.studies.binary_or_subtype import COMPARED_TASKS as COMPARED_TASKS
    from hgisam_book.studies.binary_or_subtype import head_agreement as head_agreement
    from hgisam_book.studies.binary_or_subtype import patient_means as patient_means
    from hgisam_book.studies.classifier_measurements import MEASURED as MEASURED
    from hgisam_book.studies.classifier_measurements import of_class as of_class
    from hgisam_book.studies.classifiers import study_step as study_step
    from hgisam_book.studies.classifiers import train_classifiers as train_classifiers
    from hgisam_book.studies.coarse_labels import coarse_set as coarse_set
    from hgisam_book.studies.coarse_labels import coarse_set_step as coarse_set_step
    from hgisam_book.studies.error_analysis import bleeding_scans as bleeding_scans
    from hgisam_book.studies.error_analysis import calibration_errors as calibration_errors
    from hgisam_book.studies.error_analysis import confusion_by_type as confusion_by_type
    from hgisam_book.studies.error_analysis import predicted_types as predicted_types
    from hgisam_book.studies.error_analysis import sensitivity_by_size as sensitivity_by_size
    from hgisam_book.studies.error_analysis import time_to as time_to
    from hgisam_book.studies.explanations import agreement_with_dice as agreement_with_dice
    from hgisam_book.studies.explanations import explanations_step as explanations_step
    from hgisam_book.studies.explanations import judge_explanations as judge_explanations
    from hgisam_book.studies.failure_causes import CAUSES as CAUSES
    from hgisam_book.studies.failure_causes import EDGE_MM as EDGE_MM
    from hgisam_book.studies.failure_causes import GOOD as GOOD
    from hgisam_book.studies.failure_causes import GOOD_DICE as GOOD_DICE
    from hgisam_book.studies.heads import head_maps as head_maps
    from hgisam_book.studies.label_budget import budget_curve as budget_curve
    from hgisam_book.studies.label_budget import equivalent_scans_interval as equivalent_scans_interval
    from hgisam_book.studies.label_budget import worth_of_slice_labels as worth_of_slice_labels
    from hgisam_book.studies.ladder import ladder_step as ladder_step
    from hgisam_book.studies.method_comparison import bleeding_rows as bleeding_rows
    from hgisam_book.studies.method_comparison import compare_methods as compare_methods
    from hgisam_book.studies.method_comparison import dice_by_slice as dice_by_slice
    from hgisam_book.studies.method_comparison import head_contrasts as head_contrasts
    from hgisam_book.studies.prices import best_of_each_label as best_of_each_label
    from hgisam_book.studies.prices import price_ladder as price_ladder
    from hgisam_book.studies.prices import read_prices as read_prices
    from hgisam_book.studies.refinement import PARTS as PARTS
    from hgisam_book.studies.refinement import PSEUDO_THRESHOLD as PSEUDO_THRESHOLD
    from hgisam_book.studies.refinement import densities_of as densities_of
    from hgisam_book.studies.refinement import refine_step as refine_step
    from hgisam_book.studies.released_code import released_swin_sam as released_swin_sam
    from hgisam_book.studies.results import results_step as results_step
    from hgisam_book.studies.sanity import SHUFFLED as SHUFFLED
    from hgisam_book.studies.sanity import TRAINED as TRAINED

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

"""All other systems of a run: trained, reused from a recorded run or found done, and mapped."""

from collections.abc import Mapping
from pathlib import Path

from hgisam.config.profile import Profile
from hgisam.data.prepared import PreparedDataset
from hgisam.pipeline import NO_INPUTS, open_step_data
from hgisam.runs.steps import Run
from hgisam_book.studies.baselines import budget_folds
from hgisam_book.studies.coarse_labels import coarse_set, coarse_set_step
from hgisam_book.systems.box_detector import BoxDetector
from hgisam_book.systems.exam_mil import ExamMil
from hgisam_book.systems.extraction import SystemsRun, system_maps_step
from hgisam_book.systems.focal_segnet import FocalSegNet
from hgisam_book.systems.sequence_steps import sequence_cam_step
from hgisam_book.systems.slice_mil import SliceMil
from hgisam_book.systems.training import System, train_system


def other_systems_step(
    profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None, sam: str | Path | None = None
) -> SystemsRun:
    """Networks and maps of all other systems, in `runs/<profile>/price/<name>/`.

    Systems that learn from exams and slices are trained once, on the prepared `rsna` set; those that learn from boxes
    and balls once for each fold of the label budget, on the other folds of `ct-ich`.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse networks with the same settings and slices; None to train.
        sam: Folder of Segment Anything, from `make sam`; None to do without.
    """
    networks, maps = sequence_cam_step(profile, runs_dir, take_from)
    for system in (ExamMil(), SliceMil()):
        variant = profile.variant(system.name, ["train.checkpoint=null"])
        networks[system.name] = train_system(system, variant, runs_dir, f"price/{system.name}/network", take_from)
        maps[system.name] = system_maps_step(system, profile, runs_dir, {None: networks[system.name]})
    boxes, balls = BoxDetector(sam), coarse_set(coarse_set_step(profile, runs_dir, "ball"))
    of_folds: list[tuple[System, PreparedDataset | None, Mapping[str, str]]] = [
        (boxes, None, boxes.inputs()),
        (FocalSegNet(), balls, NO_INPUTS),
    ]
    for fold_system, data, inputs in of_folds:
        name, trained = fold_system.name, dict[int | None, Path]()
        for fold in budget_folds(open_step_data(Run(profile, runs_dir), "ct-ich")):
            variant = profile.variant(name, [f"train.fold={fold}"])
            step = f"price/{name}/fold-{fold}"
            trained[fold] = networks[f"{name}/{fold}"] = train_system(
                fold_system, variant, runs_dir, step, take_from, data
            )
        maps[name] = system_maps_step(fold_system, profile, runs_dir, trained, inputs)
    return SystemsRun(networks, maps)

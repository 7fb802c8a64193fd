"""Measurement of a classifier trained on phantoms on real heads, which stay outside of the repository.

python ci/measure_real_heads.py --bleeding window-36=PREPARED --normal ge-head=PREPARED --normal cranium=PREPARED \
    --training runs/laptop/prepared/rsna --recorded book/recorded/laptop-2-cores --json book/recorded/real_heads.json

Each NAME is a source in `book/hgisam_book/studies/real_heads.yaml`, which says where to find it and under what licence;
PREPARED is a prepared set, 192 px over 200 mm as for training. The slice labels of the phantoms in --training
choose the density threshold. With --recorded the networks of a recorded run are measured too: every classifier of
slices, for their spread, and all methods of the ladder of labels. The record holds numbers only.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hgisam.data.prepared import open_prepared
from hgisam.errors import InputError
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import checkpoint_folder, load_checkpoint
from hgisam.runs.files import read_json
from hgisam.runs.folders import sha256_of
from hgisam_book.studies.real_heads import (
    MIN_BRAIN_CM2,
    choose_density_threshold,
    measure_bleeding,
    measure_calibrated,
    measure_normal,
    separation,
)
from hgisam_book.studies.real_values import RealHeads, read_real_heads
from hgisam_book.systems.real_slices import measure_ladder
from hgisam_scans.networks import CALIBRATION, load_networks


def named(argument: str, real: RealHeads) -> tuple[dict[str, str], Path]:
    """Name, origin and licence of a set, and its folder, from NAME=PREPARED.

    Raises:
        InputError: If it has another form, or the name is unknown.
    """
    name, equals, path = argument.partition("=")
    if not equals or name not in real.sources:
        expected = f"NAME=PREPARED with one of the names {', '.join(real.sources)}"
        raise InputError("prepared set", repr(argument), expected, "Enter its source in real_heads.yaml.")
    return real.sources[name].model_dump(), Path(path)


def measure(checkpoint: str, bleeding: str, normal: Sequence[str], training: Path) -> dict[str, Any]:
    """The record: sources, numbers, and the hash of the network.

    Raises:
        InputError: If a set or the checkpoint can't be used.
    """
    real, folder = read_real_heads(), checkpoint_folder(checkpoint)
    predictor = SlicePredictor(load_checkpoint(folder))
    about, path = named(bleeding, real)
    density_threshold_hu = choose_density_threshold(open_prepared(training))
    numbers, positive = measure_bleeding(predictor, open_prepared(path), density_threshold_hu)
    methods = ("hgi_sam", "hgi_sam_density") if (folder / CALIBRATION).is_file() else ()
    calibrated = [network for method in methods for network in load_networks(folder, method=method)]
    numbers["calibrated"] = measure_calibrated(calibrated, open_prepared(path))
    record: dict[str, Any] = {
        "checkpoint": {"name": Path(checkpoint).name, "sha256": sha256_of(folder / "model.safetensors")},
        "operating_point": predictor.checkpoint.detection_threshold,
        "density_threshold_hu": density_threshold_hu,
        "min_brain_cm2": MIN_BRAIN_CM2,
        "bleeding": about | numbers,
        "normal": [],
    }
    negative = []
    for argument in normal:
        about, path = named(argument, real)
        numbers, scores = measure_normal(predictor, open_prepared(path))
        record["normal"].append(about | numbers | {"auroc": separation(positive, scores)})
        negative.append(scores)
    return record | {"auroc": separation(positive, np.concatenate(negative))}


def measure_recorded(
    recorded: Path, bleeding: str, normal: Sequence[str], density_threshold_hu: float, sam: Path | None
) -> dict[str, Any]:
    """Name of a recorded run, "trainings" of its classifiers of slices, and "ladder", its methods.

    Raises:
        InputError: If it is no recorded run, or a network or set can't be used.
    """
    real, run = read_real_heads(), read_json(recorded / "record.json")
    prepared = open_prepared(named(bleeding, real)[1])
    heads = [open_prepared(named(argument, real)[1]) for argument in normal]
    trainings = {}
    for folder in (recorded / "train", *sorted((recorded / "classifiers").glob("binary-*"))):
        predictor = SlicePredictor(load_checkpoint(folder))
        numbers, positive = measure_bleeding(predictor, prepared, density_threshold_hu)
        negative = np.concatenate([measure_normal(predictor, head)[1] for head in heads])
        trainings[folder.name] = {
            "epochs": len(pd.read_csv(folder / "train.csv")),
            "dice": {method: found["dice"] for method, found in numbers["methods"].items()},
            "auroc": separation(positive, negative),
        }
    ladder = measure_ladder(recorded, prepared, density_threshold_hu, sam)
    return {"name": run["name"], "trainings": trainings, "ladder": ladder}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and optionally write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bleeding", required=True, metavar="NAME=PREPARED", help="slices with masks of blood")
    parser.add_argument("--normal", required=True, action="append", metavar="NAME=PREPARED", help="a head without one")
    parser.add_argument("--checkpoint", default="phantom-binary", help="name or folder of a classifier")
    parser.add_argument(
        "--training", required=True, type=Path, metavar="PREPARED", help="phantoms with slice labels, as in training"
    )
    parser.add_argument("--recorded", type=Path, help="folder of a recorded run, whose networks are measured too")
    parser.add_argument(
        "--sam", type=Path, help="folder of Segment Anything, from make sam, for its rows of the ladder"
    )
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    try:
        record = measure(options.checkpoint, options.bleeding, options.normal, options.training)
        if options.recorded:
            sets = options.bleeding, options.normal, record["density_threshold_hu"]
            record["recorded"] = measure_recorded(options.recorded, *sets, options.sam)
    except InputError as error:
        sys.exit(f"measure_real_heads: {error}")
    text = json.dumps(record, indent=2, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

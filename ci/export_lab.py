"""Write what the lab in the browser loads: network, slices and runtime, into book/_static/lab/.

    npm pack onnxruntime-web@1.30.0 && tar xzf onnxruntime-web-1.30.0.tgz
    python ci/export_lab.py --prepared runs/laptop/prepared/ct-ich --runtime package/dist

A page that is opened from disk may load scripts and nothing else, so all of it is scripts, compressed. Needs onnx,
onnxscript and onnxruntime, which the book itself does not.
"""

import argparse
import base64
import gzip
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lab_graph import explain, export

from hgisam.data.labels import SUBTYPES
from hgisam.data.prepared import PreparedDataset, open_prepared, require_masks
from hgisam.errors import InputError
from hgisam.inference.predictor import SlicePredictor
from hgisam.models.checkpoint import checkpoint_folder, load_checkpoint
from hgisam.runs.folders import sha256_of

LAB = Path(__file__).resolve().parent.parent / "book" / "_static" / "lab"
RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
LARGE = 0.7  # share of slices with less brain than one that is shown without a bleed


def packed(content: bytes) -> str:
    """Bytes as text, compressed, the same each time."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def write_script(name: str, **values: Any) -> None:
    """A script that adds values to `window.labData`."""
    lines = [f"labData.{key} = {json.dumps(value)};" for key, value in values.items()]
    (LAB / name).write_text("\n".join(["window.labData = window.labData || {};", *lines, ""]), encoding="utf-8")


def chosen_slices(data: PreparedDataset, predictor: SlicePredictor) -> dict[str, int]:
    """Name → row: for each subtype a bleed of that type alone and of median size, and two heads without any bleed.

    Of the heads without a bleed one has the lowest score, the other the highest: a false alarm.
    """
    areas = (require_masks(data)[:] > 0).sum(axis=(1, 2))
    labels, brain = data.slices[list(SUBTYPES)], (data.brain[:] > 0).sum(axis=(1, 2))
    chosen = {}
    for name in SUBTYPES:
        rows = np.flatnonzero((labels[name] == 1) & (labels.sum(axis=1) == 1))
        if len(rows):
            chosen[name] = int(rows[areas[rows].argsort()[len(rows) // 2]])
    bleeding = data.slices.groupby("study")["any"].transform("max")
    healthy = np.flatnonzero((bleeding == 0) & (brain >= np.quantile(brain, LARGE)))
    logits = predictor.logits(predictor.images(data.hu[healthy], data.brain[healthy]))
    ordered = healthy[predictor.task.score(logits).numpy().argsort()]
    return chosen | {"no bleed, lowest score": int(ordered[0]), "no bleed, highest score": int(ordered[-1])}


def slice_values(data: PreparedDataset, row: int) -> dict[str, str]:
    """HU, brain and truth of a slice, packed."""
    hu, brain, truth = data.hu[[row]], data.brain[[row]] > 0, require_masks(data)[[row]] > 0
    arrays = {"hu": hu.astype("<i2"), "brain": brain, "truth": truth}
    return {name: packed(np.ascontiguousarray(array).tobytes()) for name, array in arrays.items()}


def write_lab(prepared: Path, checkpoint_name: str, runtime: Path | None) -> None:
    """Write the scripts of a checkpoint, with slices of a prepared set; the runtime only if its folder is given.

    Raises:
        InputError: If the set is not one of phantoms, or set, checkpoint or runtime are not there.
    """
    data, folder = open_prepared(prepared), checkpoint_folder(checkpoint_name)
    if not data.is_phantom:
        raise InputError(str(prepared), "real patients", "phantoms: the slices are published", "Give others.")
    files = [] if runtime is None else [runtime / name for name in RUNTIME]
    if missing := [path for path in files if not path.is_file()]:
        remedy = "Unpack the npm package, and give its folder dist."
        raise InputError(str(missing[0]), "no such file", "a file of onnxruntime-web", remedy)
    checkpoint, size = load_checkpoint(folder), data.hu.shape[1]
    chosen = chosen_slices(data, SlicePredictor(checkpoint))
    images = checkpoint.preprocess(torch.tensor(data.hu[:1]).float(), torch.tensor(data.brain[:1]))
    _, _, weights = explain(checkpoint, images)
    heads = [{"name": f"stage {b.stage + 1}, block {b.block + 1}", "count": len(w)} for b, w in weights.items()]
    with TemporaryDirectory() as scratch:
        graph = export(checkpoint, size, Path(scratch, "lab.onnx")).read_bytes()
    about = {"checkpoint": checkpoint_name, "sha256": sha256_of(folder / "model.safetensors")}
    threshold = checkpoint.detection_threshold
    write_script("model.js", about=about, size=size, threshold=threshold, heads=heads, model=packed(graph))
    write_script("slices.js", slices=[{"name": name, **slice_values(data, row)} for name, row in chosen.items()])
    if files:
        program, loader, wasm = files
        shutil.copyfile(program, LAB / program.name)
        write_script("runtime.js", loader=loader.read_text(encoding="utf-8"), runtime=packed(wasm.read_bytes()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scripts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, required=True, help="a prepared set of phantoms, for the slices")
    parser.add_argument("--checkpoint", default="phantom-binary", help="name or folder of a classifier")
    parser.add_argument("--runtime", type=Path, help="dist/ of the npm package onnxruntime-web; written only if given")
    options = parser.parse_args(arguments)
    try:
        write_lab(options.prepared, options.checkpoint, options.runtime)
    except InputError as error:
        print(f"export_lab: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export_lab: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    print(*(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB" for path in sorted(LAB.iterdir())), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

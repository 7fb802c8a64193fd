"""The notebooks as pipeline steps: their dependencies and the files that they write to the run directory.

`Snakefile` turns them into rules, `build.py` reruns notebooks with missing files, `ci/check_executed.py` checks the
files.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hgisam.config.profile import Compute, Profile
from hgisam.runs.folders import sha256_of
from hgisam.runs.sources import fingerprint, sources_of

BOOK = Path(__file__).parent
PRINTED = "hgisam-book"  # file name of PDF and EPUB, beside the pages
SLIDES = "slides"  # file name of the deck
PRINTS = (f"{PRINTED}.pdf", f"{PRINTED}.epub", f"{SLIDES}.html", f"{SLIDES}.pdf", f"{SLIDES}.pptx")


@dataclass(frozen=True)
class Step:
    """A notebook of the pipeline.

    Attributes:
        notebook: File name without suffix.
        needs: Notebooks that have to run before.
        makes: Files under `runs/<profile>/` that a complete run of the notebook writes.
        shows: Folder under `book/` whose content it shows, passed as a parameter of that name.
        gpus: GPUs that it can use: "none", "one", or "all" GPUs of the profile.
        cores: Cores that it takes on one machine: "one"; or a "share" of all (`cores_of`), if it generates, trains,
            maps a whole cohort or measures speed.
        takes: True if it reuses networks of recorded runs, or makes fewer patients where all are; it then has a
            parameter `take_from`.
        prompts: True if it uses Segment Anything where `make sam` has fetched it.
    """

    notebook: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    shows: str = ""
    gpus: str = "none"
    cores: str = "one"
    takes: bool = False
    prompts: bool = False


STEPS = {
    step.notebook: step
    for step in (
        Step(
            "01_problem_and_data",
            (),
            ("phantom/rsna/phantom.json", "phantom/ct-ich/phantom.json"),
            cores="share",
            takes=True,
        ),
        Step(
            "02_data_preparation",
            ("01_problem_and_data",),
            ("prepared/rsna/dataset.json", "prepared/ct-ich/dataset.json", "prepared/cohort.csv"),
            cores="share",
            takes=True,
        ),
        Step(
            "04_training",
            ("02_data_preparation",),
            ("train/manifest.json", "live/manifest.json"),
            shows="recorded",
            gpus="all",
            cores="share",
            takes=True,
        ),
        Step("03_swin_attention", ("04_training",), ()),
        Step("05_hgi_sam", ("04_training",), ("maps/manifest.json",), gpus="one", cores="share"),
        Step("06_results", ("05_hgi_sam",), ("evaluate/manifest.json", "summary.json")),
        Step("07_which_layer", ("04_training",), (), gpus="one"),
        Step("08_performance", ("04_training",), (), shows="recorded", gpus="one", cores="share"),
        Step("09_training_at_scale", ("04_training",), (), shows="recorded", gpus="one", cores="share"),
        Step(
            "10_binary_or_subtype",
            ("04_training",),
            ("classifiers/study/manifest.json",),
            gpus="all",
            cores="share",
            takes=True,
        ),
        Step(
            "11_baselines",
            ("05_hgi_sam",),
            tuple(
                f"baselines/{name}/manifest.json"
                for name in ("unet/maps", "swin_unetr/maps", "unet_published/maps", "label_budget/table")
            ),
            gpus="all",
            cores="share",
            takes=True,
        ),
        Step(
            "12_refined_maps",
            ("05_hgi_sam",),
            ("refined/maps/manifest.json",),
            gpus="all",
            cores="share",
            takes=True,
        ),
        Step(
            "13_ablations",
            ("04_training",),
            ("ablations/manifest.json", "explanations/manifest.json", "classifiers/shuffled/manifest.json"),
            gpus="all",
            cores="share",
            takes=True,
        ),
        Step(
            "14_all_results",
            ("06_results", "10_binary_or_subtype", "11_baselines", "12_refined_maps", "13_ablations"),
            ("results/manifest.json", "summary.json"),
        ),
        Step("15_ledger", ("14_all_results",), (), shows="recorded"),
        Step("16_your_own_scans", ("04_training",), ("own/maps/manifest.json",), shows="recorded", gpus="one"),
        Step("17_boxes", ("06_results",), ("boxes/results/manifest.json",), gpus="one"),
        Step("18_data_report", ("02_data_preparation",), ()),
        Step("19_how_real", ("02_data_preparation",), (), shows="recorded"),
        Step(
            "21_other_systems",
            ("05_hgi_sam",),
            tuple(
                f"price/{name}/maps/manifest.json"
                for name in ("exam_mil", "slice_mil", "resnet_lstm_unet", "box_detector", "focal_segnet")
            ),
            gpus="all",
            cores="share",
            takes=True,
            prompts=True,
        ),
        Step(
            "20_price_of_a_label",
            ("10_binary_or_subtype", "11_baselines", "12_refined_maps", "21_other_systems"),
            ("price/table/manifest.json",),
            shows="recorded",
            gpus="all",
            cores="share",
            takes=True,
            prompts=True,
        ),
        Step(
            "22_other_domains",
            ("06_results",),
            ("other_domains/graph/manifest.json", "other_domains/lung/maps/manifest.json"),
            gpus="all",
            cores="share",
            takes=True,
        ),
    )
}

# read while the others still run: what the method is, and what it is worth
FIRST = (
    "01_problem_and_data", "02_data_preparation", "03_swin_attention", "04_training", "05_hgi_sam", "06_results",
)  # fmt: skip


def products(notebook: str, *, rsna: str = "", ct_ich: str = "") -> list[str]:
    """Output files of a notebook, relative to the run directory; without phantoms for which real studies are given."""
    real = {"phantom/rsna/phantom.json": rsna, "phantom/ct-ich/phantom.json": ct_ich}
    return [name for name in STEPS[notebook].makes if not real.get(name)]


def gpus_of(step: Step, compute: Compute) -> int:
    """Number of GPUs that a notebook requests on a cluster; on one machine it uses what is available."""
    return 0 if compute.accelerator == "cpu" else {"none": 0, "one": 1, "all": compute.devices}[step.gpus]


def cores_of(step: Step, compute: Compute, cores: int) -> int:
    """Cores of this machine that a notebook takes while others run beside it.

    Args:
        step: The notebook.
        compute: Its `chapters` divide the cores; more than one suits trainings too small to keep two cores busy.
        cores: Cores for all notebooks.
    """
    return max(1, cores // compute.chapters) if step.cores == "share" else 1


def dependents(notebook: str) -> int:
    """Number of notebooks that need a notebook, directly or through others."""
    found = {notebook}
    for step in STEPS.values():  # a notebook comes after those that it needs
        if found & {*step.needs}:
            found.add(step.notebook)
    return len(found) - 1


def shown_files(step: Step) -> list[Path]:
    """Files of the folder that a notebook shows."""
    return sorted(path for path in (BOOK / step.shows).rglob("*") if path.is_file()) if step.shows else []


def reusable_files(step: Step, take_from: str) -> list[Path]:
    """Network files of recorded runs that a notebook can reuse."""
    if not step.takes or not take_from:
        return []
    return sorted(path for path in Path(take_from).rglob("*") if path.name in ("model.json", "model.safetensors"))


def made_from(step: Step, profile: Profile, take_from: str) -> str:
    """Fingerprint of everything that the outputs of a notebook depend on, except earlier notebooks and raw studies.

    Steps of a run directory use the same fingerprint to decide whether they are up to date: see
    `hgisam.runs.sources.fingerprint`.

    Args:
        step: The notebook.
        profile: The resolved profile.
        take_from: Folder of recorded runs, or "".
    """
    notebook = BOOK / f"{step.notebook}.ipynb"
    graphs = sorted((BOOK.parent / "sam").glob("*.onnx")) if step.prompts else []
    files = [*shown_files(step), *reusable_files(step, take_from), *graphs]
    return fingerprint(
        settings=profile.model_dump(mode="json"),
        inputs={os.path.relpath(path, BOOK): sha256_of(path) for path in files},
        code=[notebook, BOOK / "run_notebook.py", *code_of(notebook)],
    )


def code_of(notebook: Path) -> list[Path]:
    """Source files of our packages that a notebook imports, directly or through others."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    return sources_of(plain)

"""The notebooks as steps: what each needs of the others and which files it leaves in the run's folder.

`Snakefile` makes rules of them, `build.py` runs again what has lost its files, `ci/check_executed.py` looks for them.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hgisam.config.profile import Compute, Profile
from hgisam.runs.folders import sha256_of
from hgisam.runs.sources import fingerprint, sources_of

BOOK = Path(__file__).parent
PRINTED = "hgisam-book"  # beside the pages, with .pdf and .epub


@dataclass(frozen=True)
class Step:
    """A notebook of the pipeline.

    Attributes:
        notebook: Name without its ending.
        needs: Notebooks that must have run before.
        makes: Files under `runs/<profile>/` that prove it whole.
        shows: Folder under `book/` whose contents it shows, given to it as a parameter of that name.
        gpus: What it can use: "none", "one", or "all" that the profile names.
        takes: Whether it trains networks that recorded runs may hold; it then has a parameter `take_from`.
    """

    notebook: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    shows: str = ""
    gpus: str = "none"
    takes: bool = False


STEPS = {
    step.notebook: step
    for step in (
        Step("01_problem_and_data", (), ("phantom/rsna/phantom.json", "phantom/ct-ich/phantom.json")),
        Step(
            "02_data_preparation",
            ("01_problem_and_data",),
            ("prepared/rsna/dataset.json", "prepared/ct-ich/dataset.json"),
        ),
        Step("04_training", ("02_data_preparation",), ("train/manifest.json",), shows="recorded", gpus="all"),
        Step("03_swin_attention", ("04_training",), ()),
        Step("05_hgi_sam", ("04_training",), ("maps/manifest.json",), gpus="one"),
        Step("06_results", ("05_hgi_sam",), ("evaluate/manifest.json", "summary.json")),
        Step("07_which_layer", ("04_training",), (), gpus="one"),
        Step("08_performance", ("04_training",), (), shows="recorded", gpus="one"),
        Step("09_training_at_scale", ("04_training",), (), shows="recorded", gpus="one"),
        Step("10_binary_or_subtype", ("04_training",), ("classifiers/study/manifest.json",), gpus="all", takes=True),
        Step(
            "11_baselines",
            ("05_hgi_sam",),
            tuple(
                f"baselines/{name}/manifest.json"
                for name in ("unet/maps", "swin_unetr/maps", "unet_published/maps", "label_budget/table")
            ),
            gpus="all",
            takes=True,
        ),
        Step("12_refined_maps", ("05_hgi_sam",), ("refined/maps/manifest.json",), gpus="all"),
        Step(
            "13_ablations",
            ("04_training",),
            ("ablations/manifest.json", "classifiers/shuffled/manifest.json"),
            gpus="all",
        ),
        Step(
            "14_all_results",
            ("06_results", "10_binary_or_subtype", "11_baselines", "12_refined_maps"),
            ("results/manifest.json", "summary.json"),
        ),
        Step("15_ledger", ("14_all_results",), (), shows="recorded"),
        Step("16_your_own_scans", ("04_training",), ("own/maps/manifest.json",), shows="recorded", gpus="one"),
        Step("17_boxes", ("06_results",), ("boxes/results/manifest.json",), gpus="one"),
        Step("18_data_report", ("02_data_preparation",), ()),
    )
}


def products(notebook: str, *, rsna: str = "", ct_ich: str = "") -> list[str]:
    """Files that a notebook leaves, under the run's folder; no phantom is made where real studies are given."""
    given = {"phantom/rsna/phantom.json": rsna, "phantom/ct-ich/phantom.json": ct_ich}
    return [name for name in STEPS[notebook].makes if not given.get(name)]


def gpus_of(step: Step, compute: Compute) -> int:
    """GPUs that a notebook asks a cluster for; one machine gives what it has without being asked."""
    return 0 if compute.accelerator == "cpu" else {"none": 0, "one": 1, "all": compute.devices}[step.gpus]


def shown_by(step: Step) -> list[Path]:
    """Files of the folder that a notebook shows."""
    return sorted(path for path in (BOOK / step.shows).rglob("*") if path.is_file()) if step.shows else []


def taken_by(step: Step, take_from: str) -> list[Path]:
    """Files of the recorded runs that a notebook may take its networks from."""
    if not step.takes or not take_from:
        return []
    return sorted(path for path in Path(take_from).rglob("*") if path.name in ("model.json", "model.safetensors"))


def made_from(step: Step, profile: Profile, take_from: str) -> str:
    """Fingerprint of everything that a notebook's outputs depend on besides earlier notebooks and raw studies.

    The same as decides in a run directory whether a step is done: see `hgisam.runs.sources.fingerprint`.

    Args:
        step: The notebook.
        profile: The resolved profile.
        take_from: Folder of recorded runs, or "".
    """
    notebook = BOOK / f"{step.notebook}.ipynb"
    files = [*shown_by(step), *taken_by(step, take_from)]
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

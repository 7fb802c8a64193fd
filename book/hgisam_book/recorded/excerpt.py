"""The excerpt of a recorded training cohort, and the scores of recorded networks on its validation patients.

A network that comes from a record needs no training patients. So a run whose networks are all recorded makes only the
first patients of the training cohort, in the split of the whole one, and compares what each network scores on the
validation patients among them with what it scored there when it was recorded.
"""

from pathlib import Path

from pydantic import BaseModel, PositiveInt

from hgisam.data.prepared import PreparedDataset
from hgisam.runs.files import check_content, read_json

COHORT = "cohort.csv"  # of a record, and of the prepared sets of a run: a row per exam of the whole training cohort
EXCERPT = "excerpt.json"  # of a record
DENSITY = "refined/density.json"  # of a record: the threshold of density, which the slice labels of all patients chose
COUNTS = ("patients", "slices", "bleeding")


class Check(BaseModel):
    """What a recorded network has to reach on the excerpt.

    Attributes:
        patients, slices, bleeding: Split → number in the set that it trained on, as far as it is in the excerpt.
        metric: Name of the score, e.g. "val_auroc".
        value: Of the validation patients.
    """

    patients: dict[str, int]
    slices: dict[str, int]
    bleeding: dict[str, int]
    metric: str
    value: float


class Excerpt(BaseModel):
    """Content of `EXCERPT`.

    Attributes:
        patients: Number of patients, the first of the phantom cohort.
        networks: Step of a recorded training → its check.
    """

    patients: PositiveInt
    networks: dict[str, Check]


def is_excerpt(data: PreparedDataset) -> bool:
    """True if the given split of a phantom has patients who are not in it."""
    return data.is_phantom and bool(data.meta.get("absent_patients", 0))


def read_excerpt(record: str | Path) -> Excerpt | None:
    """The excerpt of a recorded run; None if there is none.

    Raises:
        InputError: If its file is broken.
    """
    path = Path(record) / EXCERPT
    if not path.is_file():
        return None
    what, remedy = "the scores of recorded networks on an excerpt", "Restore it, or write it with ci/record_excerpt.py."
    return check_content(Excerpt, read_json(path), str(path), what, remedy)


def record_of(training: str | Path, step: str) -> Path:
    """Folder of the recorded run that a recorded training belongs to.

    Args:
        training: Its folder.
        step: Its step, e.g. "price/exam/swin".
    """
    return Path(training).parents[step.count("/")]

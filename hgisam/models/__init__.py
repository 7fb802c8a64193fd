"""Networks, the tasks that they are trained for, and their checkpoints.

`networks` builds Swin classifiers, `volumes` one in three dimensions, `segmenters` the supervised baselines. `tasks`
has classes, losses and metrics of each task, `checkpoint` saves and loads trained networks, `weights` loads initial
weights, `device` chooses the device.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "pydantic", "sklearn")

if TYPE_CHECKING:
    from hgisam.models.checkpoint import Checkpoint as Checkpoint
    from hgisam.models.checkpoint import load_checkpoint as load_checkpoint
    from hgisam.models.checkpoint import load_pretrained as load_pretrained
    from hgisam.models.checkpoint import save_checkpoint as save_checkpoint
    from hgisam.models.checkpoint import shipped_checkpoints as shipped_checkpoints
    from hgisam.models.networks import build_classifier as build_classifier
    from hgisam.models.networks import build_network as build_network
    from hgisam.models.tasks import TASKS as TASKS
    from hgisam.models.tasks import Task as Task
    from hgisam.models.volumes import VolumeClassifier as VolumeClassifier

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

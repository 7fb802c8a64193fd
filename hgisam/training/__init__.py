"""Training: one loop for every task, on two cores or many GPUs.

`loop` is the training itself, `setup` what it needs, `validation` what chooses the epoch, `optimizer` AdamW and its
schedule, `state` what survives a kill, `fabric` and `distributed` devices and processes, `adopt` a checkpoint in place
of training.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "lightning", "pandas", "sklearn")

if TYPE_CHECKING:
    from hgisam.training.loop import fit as fit
    from hgisam.training.setup import TrainingSetup as TrainingSetup
    from hgisam.training.setup import set_up_training as set_up_training
    from hgisam.training.validation import validate as validate

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

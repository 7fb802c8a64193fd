"""Training: one loop for every task, on two cores or many GPUs.

`loop` trains, `setup` builds all that it needs, `validation` computes the metric that selects the epoch, `optimizer` is
AdamW with a learning-rate schedule, `state` resumes a killed training, `fabric` and `distributed` start data-parallel
processes, `adopt` takes a checkpoint in place of a training.
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

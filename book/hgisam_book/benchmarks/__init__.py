"""Benchmarks: time, arithmetic and memory of maps and of training, on the machine at hand.

`map_cost` measures maps against a forward pass and a naive implementation, `training_speed` the training loop and data
loading, `memory` the tensors that training keeps. The scripts `ci/bench_*.py` write their results to `book/recorded`.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("book", "plotly")

if TYPE_CHECKING:
    from hgisam_book.benchmarks.map_cost import count_flops as count_flops
    from hgisam_book.benchmarks.map_cost import machine as machine
    from hgisam_book.benchmarks.map_cost import measure_map_cost as measure_map_cost
    from hgisam_book.benchmarks.map_cost import naive_hgi_sam as naive_hgi_sam
    from hgisam_book.benchmarks.map_cost import peak_memory_mb as peak_memory_mb
    from hgisam_book.benchmarks.memory import training_memory as training_memory
    from hgisam_book.benchmarks.training_speed import few_batches as few_batches
    from hgisam_book.benchmarks.training_speed import loader_rate as loader_rate
    from hgisam_book.benchmarks.training_speed import measure_training as measure_training

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

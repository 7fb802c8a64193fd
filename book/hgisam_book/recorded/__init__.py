"""Recorded results: runs and benchmarks that not every reader can repeat, kept in `book/recorded`.

`runs` packs and reads runs, `reuse` takes their trained networks in place of training again, `export` and `model_card`
write a checkpoint to publish, `benchmarks` reads benchmark records and compares them with their targets.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("book", "pandas", "plotly")

if TYPE_CHECKING:
    from hgisam_book.recorded.benchmarks import INGEST_TARGETS as INGEST_TARGETS
    from hgisam_book.recorded.benchmarks import MAP_TARGETS as MAP_TARGETS
    from hgisam_book.recorded.benchmarks import TRAINING_TARGETS as TRAINING_TARGETS
    from hgisam_book.recorded.benchmarks import Target as Target
    from hgisam_book.recorded.benchmarks import compare_with_targets as compare_with_targets
    from hgisam_book.recorded.benchmarks import read_records as read_records
    from hgisam_book.recorded.benchmarks import record_note as record_note
    from hgisam_book.recorded.benchmarks import record_table as record_table
    from hgisam_book.recorded.export import export_checkpoint as export_checkpoint
    from hgisam_book.recorded.reuse import recorded_training as recorded_training
    from hgisam_book.recorded.reuse import reuse_note as reuse_note
    from hgisam_book.recorded.reuse import train_or_reuse as train_or_reuse
    from hgisam_book.recorded.reuse import trainings_of as trainings_of
    from hgisam_book.recorded.runs import RecordedRun as RecordedRun
    from hgisam_book.recorded.runs import read_runs as read_runs
    from hgisam_book.recorded.runs import record_run as record_run

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

"""Ledger of claims: published results and our own targets, compared with the results of runs.

`claims.yaml` lists the claims, `claims` has their rules and verdicts, `summary_query` reads values from the
`summary.json` of a run, `tables` renders the ledger for the terminal and for a page. `published` lists results of
the field and what stands in the way of comparing them.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("book", "IPython", "rich")

if TYPE_CHECKING:
    from hgisam_book.ledger.claims import FAIL as FAIL
    from hgisam_book.ledger.claims import NO as NO
    from hgisam_book.ledger.claims import NOT_RUN as NOT_RUN
    from hgisam_book.ledger.claims import PASS as PASS
    from hgisam_book.ledger.claims import YES as YES
    from hgisam_book.ledger.claims import Claim as Claim
    from hgisam_book.ledger.claims import Ledger as Ledger
    from hgisam_book.ledger.claims import load_ledger as load_ledger
    from hgisam_book.ledger.claims import verdicts as verdicts
    from hgisam_book.ledger.published import dice_from as dice_from
    from hgisam_book.ledger.published import published_table as published_table
    from hgisam_book.ledger.published import read_published as read_published
    from hgisam_book.ledger.summary_query import data_of as data_of
    from hgisam_book.ledger.summary_query import find_value as find_value
    from hgisam_book.ledger.summary_query import read_summary as read_summary
    from hgisam_book.ledger.tables import count_verdicts as count_verdicts
    from hgisam_book.ledger.tables import ledger_table as ledger_table
    from hgisam_book.ledger.tables import print_ledger as print_ledger

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

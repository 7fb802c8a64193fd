"""Runs on disk: steps with manifests, folders that appear whole or not at all, and what is stale.

`steps` makes a step's folder or finds it done, `manifest` says what made it, `sources` decides what is stale, `folders`
holds atomic renames and locks, `files` JSON and tables, `processes` ends orphans.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pandas", "psutil", "pydantic")

if TYPE_CHECKING:
    from hgisam.runs.files import read_json as read_json
    from hgisam.runs.files import read_table as read_table
    from hgisam.runs.files import write_json as write_json
    from hgisam.runs.folders import sha256_of as sha256_of
    from hgisam.runs.folders import whole_folder as whole_folder
    from hgisam.runs.manifest import read_manifest as read_manifest
    from hgisam.runs.steps import Run as Run

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

"""Profiles: everything that a run depends on, validated.

`profile` holds the sections and their checks, `networks` those of the networks, `overrides` reads YAML and sets
`section.key=value`. The shipped profiles are the files of `profiles`.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("train", "pydantic")

if TYPE_CHECKING:
    from hgisam.config.profile import Profile as Profile
    from hgisam.config.profile import load_profile as load_profile
    from hgisam.config.profile import profile_names as profile_names

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

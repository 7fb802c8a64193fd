"""From raw head CT studies, real or synthetic, to the prepared data set that `hgisam` reads."""

from data_prep.phantom import write_phantom
from data_prep.prepare import prepare

__all__ = ["prepare", "write_phantom"]

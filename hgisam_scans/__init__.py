"""A scan in, a mask out: head CT scans segmented on their own grid, with what a reader of the result should know.

`candidates` lists the series of a file or folder, `series_traits` says what speaks against each, `series_choice`
chooses one, `networks` loads what segments it, `segmentation` runs it, `segmented_scan` holds and saves the result.
`blood_density` is fused with its map, `trust` compares the scan with the training data, `volume_interval` gives the
volume an interval, `dicom_seg` and `dicom_sr` write DICOM objects, `report` and `outputs` the files, `batch` segments
many scans, `calibration` makes what fusion, interval and comparison need, `cli` adds the commands to `hgisam`.
"""

from typing import TYPE_CHECKING

from hgisam.lazy import lazy_exports, require_extra

require_extra("segment", "highdicom", "nibabel", "pandas", "pydicom", "PIL")

if TYPE_CHECKING:
    from hgisam_scans.batch import segment_folder as segment_folder
    from hgisam_scans.calibration import calibrate as calibrate
    from hgisam_scans.candidates import find_scans as find_scans
    from hgisam_scans.segmentation import segment as segment
    from hgisam_scans.segmented_scan import SegmentedScan as SegmentedScan

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

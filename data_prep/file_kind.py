"""Kind and compression of a file, told from its first bytes; its name decides only where these are missing."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
PREAMBLE = 128  # bytes before the "DICM" of a DICOM file
BARE_DICOM = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")  # group of the first element, without a preamble before it
NIFTI_SUFFIXES = (".nii", ".hdr")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")
NIFTI_HEADER = 352  # bytes: header of NIfTI-1 and the flag of extensions


@contextmanager
def unpacked(path: str | Path) -> Iterator[Any]:
    """Opens the content of a file, whether it is compressed with gzip, bzip2, xz, or not.

    Raises:
        OSError: If it cannot be opened; reading may raise EOFError, zlib.error and lzma.LZMAError too.
    """
    with Path(path).open("rb") as file:
        start = file.read(max(map(len, PACKED)))
        file.seek(0)
        unpack = next((unpack for magic, unpack in PACKED.items() if start.startswith(magic)), None)
        if unpack is None:
            yield file
        else:
            with unpack(file) as content:
                yield content


def is_nifti(path: str | Path) -> bool:
    """True for a NIfTI image, the header of a pair, or a broken file that only its name calls one.

    The `.img` file of a pair is none: it has no header.
    """
    start = _first_bytes(path)
    return bool(nifti_magic(start)) or (stem_and_suffix(Path(path).name)[1] in NIFTI_SUFFIXES and not is_dicom(start))


def voxel_file(header: str | Path) -> Path | None:
    """The `.img` file of a pair, beside its header; None if there is none, or if `header` is no header of a pair."""
    header = Path(header)
    if not nifti_magic(_first_bytes(header)).startswith(b"ni"):
        return None
    stem = header.with_name(stem_and_suffix(header.name)[0])
    names = [f"{stem}{image}{packed}" for image in (".img", ".IMG") for packed in ("", ".gz", ".GZ", ".bz2", ".xz")]
    return next((Path(name) for name in names if Path(name).is_file()), None)


def _first_bytes(path: str | Path) -> bytes:
    """First bytes of the content; none if it can't be read."""
    try:
        with unpacked(path) as file:
            return bytes(file.read(NIFTI_HEADER))
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def nifti_magic(start: bytes) -> bytes:
    """Magic of a NIfTI file: n+1 or n+2 for an image, ni1 or ni2 for the header of a pair; empty for other content."""
    return next((magic for magic in (start[344:347], start[4:7]) if magic in (b"n+1", b"ni1", b"n+2", b"ni2")), b"")


def is_dicom(start: bytes) -> bool:
    """True for the first bytes of a DICOM file, with a preamble or without."""
    return start[PREAMBLE : PREAMBLE + 4] == b"DICM" or is_bare_dicom(start)


def is_bare_dicom(start: bytes) -> bool:
    """True if the first bytes are those of a DICOM data set without preamble."""
    return start.startswith(BARE_DICOM) and start[PREAMBLE : PREAMBLE + 4] != b"DICM"


def stem_and_suffix(name: str) -> tuple[str, str]:
    """A file's name without suffixes of compression and NIfTI; and the suffix of NIfTI in lower case, else "".

    Example:
        >>> stem_and_suffix("049.NII.gz"), stem_and_suffix("049"), stem_and_suffix("1.2.dcm")
        (('049', '.nii'), ('049', ''), ('1.2.dcm', ''))
    """
    plain = name
    for packed in PACKED_SUFFIXES:
        if plain.lower().endswith(packed):
            plain = plain[: -len(packed)]
    for suffix in NIFTI_SUFFIXES:
        if plain.lower().endswith(suffix):
            return plain[: -len(suffix)], suffix
    return plain, ""

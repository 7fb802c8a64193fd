"""Writing of complete prepared data sets: arrays, tables and `dataset.json`; `hgisam.data` reads them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from hgisam.data.arrays import SliceArray
from hgisam.data.labels import LABELS
from hgisam.data.prepared import BOX_COLUMNS, COLUMNS, FORMAT_VERSION, check_boxes, check_slices
from hgisam.errors import system_error
from hgisam.runs.folders import bytes_of, sha256_of, whole_folder

SHARD_SLICES = 64  # per file
Block = tuple[npt.NDArray[Any] | None, ...]  # some slices of each array
StudyArrays = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]


def write_prepared(
    out: str | Path,
    *,
    slices: pd.DataFrame,
    blocks: Iterable[StudyArrays],
    size_px: int,
    with_mask: bool,
    info: dict[str, Any],
    boxes: pd.DataFrame | None = None,
) -> Path:
    """Write a complete prepared data set, or nothing.

    Args:
        out: Folder to create.
        slices: One row per slice with `COLUMNS`.
        blocks: (hu, brain, mask) per study, each [slice, size_px, size_px]; concatenated they match `slices`.
        size_px: Side of the square slices.
        with_mask: True if the blocks have masks.
        info: Goes into `dataset.json`: at least name, source, licence, report.
        boxes: One row per box with `BOX_COLUMNS`, for a data set with boxes.

    Returns:
        `out`.

    Raises:
        InputError: If the rows break the contract (columns, labels, a patient in two splits, a box of no slice).

    Example:
        >>> import tempfile
        >>> row = dict.fromkeys(COLUMNS, 0) | {"patient": "p1", "study": "s1", "split": "train", "pixel_mm": 0.5}
        >>> block = np.full((1, 8, 8), 40, np.int16), np.ones((1, 8, 8), np.uint8), None
        >>> info, out = {"name": "mine", "source": "me", "licence": "none"}, f"{tempfile.mkdtemp()}/mine"
        >>> path = write_prepared(
        ...     out, slices=pd.DataFrame([row]), blocks=[block], size_px=8, with_mask=False, info=info
        ... )
        >>> sorted(file.name for file in path.iterdir())
        ['dataset.json', 'slices.parquet', 'slices.zarr']
    """
    out = Path(out)
    check_slices(slices)
    if boxes is not None:
        check_boxes(boxes, slices, size_px)
    n = len(slices)
    with whole_folder(out) as scratch:
        dtypes = {"hu": "int16", "brain": "uint8"} | ({"mask": "uint8"} if with_mask else {})
        write_arrays(scratch / "slices.zarr", dtypes, (n, size_px, size_px), blocks)
        slices[list(COLUMNS)].astype(COLUMNS).to_parquet(scratch / "slices.parquet", index=False)
        written = ["slices.parquet", "slices.zarr"]
        if boxes is not None:
            boxes[list(BOX_COLUMNS)].astype(BOX_COLUMNS).to_parquet(scratch / "boxes.parquet", index=False)
            written.append("boxes.parquet")
        meta = {
            "format_version": FORMAT_VERSION,
            **info,
            "size_px": size_px,
            "with_mask": with_mask,
            "counts": {
                "patients": int(slices["patient"].nunique()),
                "studies": int(slices["study"].nunique()),
                "slices": n,
                **{label: int((slices[label] == 1).sum()) for label in LABELS},
            },
            "bytes": {name: bytes_of(scratch / name) for name in written},
            "hashes": {name: sha256_of(scratch / name) for name in written},
        }
        (scratch / "dataset.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n")
    return out


def write_arrays(
    path: str | Path, dtypes: Mapping[str, str], shape: tuple[int, int, int], blocks: Iterable[Block]
) -> None:
    """Write a zarr group of arrays [slice, row, col].

    Args:
        path: Of the group.
        dtypes: Name → dtype of each array, in the order of a block's parts.
        shape: Of each array.
        blocks: Some slices of each array; concatenated they are the arrays.

    Raises:
        OSError: From the file system, such as a full disk.
        ValueError: If the blocks hold another number of slices, or lack an array.
    """
    path = Path(path)
    root, shard = zarr.create_group(path), min(SHARD_SLICES, shape[0])
    for name, dtype in dtypes.items():
        root.create_array(
            name, shape=shape, dtype=dtype, chunks=(1, *shape[1:]), shards=(shard, *shape[1:]),
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=np.dtype(dtype).itemsize),
        )  # fmt: skip
    _write_shards([SliceArray(path / name, writable=True) for name in dtypes], blocks, shard)


def _write_shards(arrays: list[SliceArray], blocks: Iterable[Block], shard: int) -> None:
    """Write blocks shard by shard: each is compressed once, while the next one is collected."""
    pending: list[list[npt.NDArray[Any]]] = [[] for _ in arrays]
    start = held = 0
    writes: list[Any] = []

    def wait() -> None:
        while writes:
            try:
                writes.pop().result()
            except ValueError as error:
                raise system_error(error) from None

    def flush(count: int) -> None:
        nonlocal start, held
        wait()
        for index, array in enumerate(arrays):
            joined = np.concatenate(pending[index])
            writes.append(array.store[start : start + count].write(joined[:count]))
            pending[index] = [joined[count:]]
        start, held = start + count, held - count

    for block in blocks:
        for index, slices in enumerate(pending):
            if (part := block[index]) is None:
                raise ValueError("a block without a mask in a data set with masks")
            slices.append(part)
        held += len(pending[0][-1])
        while held >= shard:
            flush(shard)
    if held:
        flush(held)
    wait()
    if start != arrays[0].shape[0]:
        raise ValueError(f"blocks held {start} slices, the table {arrays[0].shape[0]}")

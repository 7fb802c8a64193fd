"""Slices on disk: zarr lays the arrays out, TensorStore carries them, scattered slices many times faster than zarr."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore
import zarr
from zarr.codecs import BloscCodec

from hgisam.errors import InputError

SHARD_SLICES = 64  # that share a file

Parts = tuple[npt.NDArray[Any] | None, ...]  # some slices, a part an array


@dataclass(frozen=True)
class SliceArray:
    """An array [slice, row, col] on disk, whose slices are read as numpy's are indexed: by number, range or list.

    Attributes:
        path: Of a zarr array.
        writable: Whether it is opened for writing.
    """

    path: Path
    writable: bool = False

    @cached_property
    def store(self) -> Any:
        """The array for TensorStore, opened when it is first needed, also after a way to another process."""
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{self.path}/"}}
        return tensorstore.open(spec, open=True, read=True, write=self.writable, recheck_cached=False).result()

    @property
    def shape(self) -> tuple[int, ...]:
        """(slices, rows, cols)"""
        return tuple(self.store.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array in memory."""
        return int(self.store.size * self.store.dtype.numpy_dtype.itemsize)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[Any]:
        """[row, col] of one slice, [slice, row, col] of several.

        Raises:
            IndexError: If there is no such slice.
            InputError: If the file is damaged.
        """
        try:
            return np.asarray(self.store[np.arange(len(self))[rows]].read().result())
        except ValueError as error:
            remedy = "Run `python -m data_prep` again."
            raise InputError(f"{self.path}", f"damaged ({str(error).split(':')[0]})", "slices", remedy) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "writable": self.writable}


Slices = SliceArray | npt.NDArray[Any]  # on disk, or some of them in memory


def write_arrays(path: Path, dtypes: Mapping[str, str], shape: tuple[int, int, int], blocks: Iterable[Parts]) -> None:
    """Makes a zarr group of arrays [slice, row, col] and fills it.

    Args:
        path: Of the group.
        dtypes: Name → dtype of each array, in the order of a block's parts.
        shape: Of each array.
        blocks: Parts of some slices each; concatenated they are the arrays.

    Raises:
        OSError: If the disk is full, say.
        ValueError: If the blocks hold another number of slices, or lack a part.
    """
    root, shard = zarr.create_group(path), min(SHARD_SLICES, shape[0])
    for name, dtype in dtypes.items():
        root.create_array(
            name, shape=shape, dtype=dtype, chunks=(1, *shape[1:]), shards=(shard, *shape[1:]),
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=np.dtype(dtype).itemsize),
        )  # fmt: skip
    _fill([SliceArray(path / name, writable=True) for name in dtypes], blocks, shard)


def _fill(arrays: list[SliceArray], blocks: Iterable[Parts], shard: int) -> None:
    """Writes the blocks shard by shard, so that each is compressed once, one while the next is gathered."""
    waiting: list[list[npt.NDArray[Any]]] = [[] for _ in arrays]
    start = held = 0
    writes: list[Any] = []

    def wait() -> None:
        while writes:
            try:
                writes.pop().result()
            except ValueError as error:
                raise _from_the_disk(error) from None

    def flush(count: int) -> None:
        nonlocal start, held
        wait()
        for index, array in enumerate(arrays):
            joined = np.concatenate(waiting[index])
            writes.append(array.store[start : start + count].write(joined[:count]))
            waiting[index] = [joined[count:]]
        start, held = start + count, held - count

    for block in blocks:
        for index in range(len(arrays)):
            part = block[index]
            if part is None:
                raise ValueError("a block without a mask in a data set with masks")
            waiting[index].append(part)
        held += len(waiting[0][-1])
        while held >= shard:
            flush(shard)
    if held:
        flush(held)
    wait()
    if start != arrays[0].shape[0]:
        raise ValueError(f"blocks held {start} slices, the table {arrays[0].shape[0]}")


def _from_the_disk(error: ValueError) -> Exception:
    """What the system said, such as that the disk is full, where TensorStore wraps it."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else error

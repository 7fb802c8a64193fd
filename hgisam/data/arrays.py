"""Slices on disk: arrays in zarr format, read by TensorStore, many times faster than zarr for single slices."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore

from hgisam.errors import InputError

PREPARE_AGAIN = "Run `python -m data_prep` again."


@dataclass(frozen=True)
class SliceArray:
    """An array [slice, row, col] on disk, indexed like numpy's: by number, range or list.

    Attributes:
        path: Of a zarr array.
        writable: True to open it for writing.
    """

    path: Path
    writable: bool = False

    @cached_property
    def store(self) -> Any:
        """The array in TensorStore, opened at first use, also in a worker process."""
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
        """[row, col] of one slice, [slice, row, col] of several; an InputError if the file is damaged."""
        try:
            return np.asarray(self.store[np.arange(len(self))[rows]].read().result())
        except ValueError as error:
            got = f"damaged ({str(error).split(':')[0]})"
            raise InputError(f"{self.path}", got, "slices", PREPARE_AGAIN) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "writable": self.writable}


Slices = SliceArray | npt.NDArray[Any]  # on disk or in memory

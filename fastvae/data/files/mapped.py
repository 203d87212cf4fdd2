"""One large array on disk, memory-mapped: examples are read on demand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.files.arrays import channels_first, read_header, to_numbers
from fastvae.data.source import Source, check_array_shape, check_finite, check_labels

_CHUNK_BYTES = 2**26


class MappedSource(Source):
    """The rows of a memory-mapped array, which is never in memory as a whole.

    Pixels in uint8 have the same levels as in memory: 2 if none is above 1, otherwise 256. Finding out reads the array
    up to the first larger pixel, in chunks. Numbers are checked when they are read.

    Args:
        array: ``[N, ...]``, bool, integers in 0 .. 255, or floating point; usually a ``numpy.memmap``.
        labels: int64 ``[N]``, or None.
        name: name in error messages.
        channels_first: whether images ``[N, H, W]`` get an axis of channels, and those of ``[N, H, W, C]`` are moved.

    Raises:
        ValueError: no examples, or labels of another length; at a reading: NaN, infinity or integers outside 0 .. 255.
    """

    in_memory = False
    is_array = True

    def __init__(
        self, array: NDArray[Any], labels: Tensor | None = None, *, name: str = "data", channels_first: bool = False
    ) -> None:
        check_array_shape(array.shape, name)
        self._array, self._name = np.asarray(array), name  # a plain view: indexing a memmap would give memmaps
        self._labels = None if labels is None else check_labels(labels, len(array), name)
        is_float = array.dtype.kind == "f"
        self.dtype = torch.float32 if is_float else torch.uint8
        self.levels = None if is_float else 2 if array.dtype.kind == "b" or _is_binary(self._array) else 256
        what = "real numbers" if self.levels is None else "binary" if self.levels == 2 else "256 grey levels"
        self.notes = (f"{name}: {array.nbytes / 2**30:.3g} GiB of {array.dtype}, read on demand: {what}",)
        self._move_channels = False
        self.event_shape = tuple(array.shape[1:])
        if channels_first:
            self._set_channels_first()

    def __len__(self) -> int:
        return self._array.shape[0]

    def __getitem__(self, indices: Tensor) -> Tensor:
        rows = self._array[indices.numpy()]
        numbers = to_numbers(rows, self._name)
        if numbers.is_floating_point():
            check_finite(numbers, self._name, indices)
        elif numbers.dtype == torch.bool:
            numbers = numbers.to(torch.uint8)
        return channels_first(numbers).contiguous() if self._move_channels else numbers

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``, or None."""
        return self._labels

    def channels_first(self) -> MappedSource:
        """The same examples with their channels in front, see `fastvae.data.files.arrays.channels_first`."""
        moved = copy.copy(self)
        moved._set_channels_first()
        return moved

    def _set_channels_first(self) -> None:
        self._move_channels = True
        empty = torch.empty((1, *self._array.shape[1:]), device="meta")
        self.event_shape = tuple(channels_first(empty).shape[1:])


def map_array(path: Path) -> MappedSource:
    """The examples of an ``.npy`` file, read on demand.

    Raises:
        ValueError: not such a file, in Fortran order, truncated or too long.
    """
    with path.open("rb") as file:
        shape, fortran_order, dtype = read_header(file, str(path))
        offset = file.tell()
    expected, found = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if found != expected:
        what = "truncated" if found < expected else "too long"
        raise ValueError(f"{path}: {what}: it has {found} bytes, its header declares {expected}; write it again")
    if fortran_order:
        raise ValueError(
            f"{path}: an array that is read on demand must be in C order, got Fortran order; save it with"
            " numpy.save(path, numpy.ascontiguousarray(x)), or raise --data.max-gib"
        )
    check_array_shape(shape, str(path))
    array = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return MappedSource(array, name=str(path), channels_first=True)


def _is_binary(array: NDArray[Any]) -> bool:
    """Whether no number of an array of integers is above 1; reads in chunks, up to the first that is."""
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    return all(int(array[first : first + rows].max()) <= 1 for first in range(0, len(array), rows))

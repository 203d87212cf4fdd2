"""Examples in many files: a folder of ``.npy`` shards, memory-mapped."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.data.files.arrays import channels_first, read_header, to_numbers
from fastvae.data.files.index import Shard, Table, load_table
from fastvae.data.source import Draws, Source

Open = TypeVar("Open")

_MAX_OPEN = 64  # shards kept open at once


class ShardedSource(Source, Generic[Open]):
    """Examples in the order of the names of the shards, then of their position in the shard, read on demand.

    uint8 examples are pixels of 256 levels, bool ones are binary, floating point ones continuous: not all of them are
    read to find out.
    """

    in_memory = False

    def __init__(self, folder: Path, table: Table) -> None:
        self._folder, self._table = folder, table
        self._stops = np.array([0, *accumulate(shard.num_examples for shard in table.shards)], dtype=np.int64)
        stored = np.dtype(table.dtype)
        self.dtype = torch.float32 if stored.kind == "f" else torch.uint8
        self.levels = None if stored.kind == "f" else 2 if stored.kind == "b" else 256
        self.event_shape = tuple(channels_first(torch.empty((1, *table.event_shape), device="meta")).shape[1:])
        self._open_shards: OrderedDict[int, Open] = OrderedDict()

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, indices: Tensor) -> Tensor:
        wanted = indices.numpy()
        examples = np.empty((len(wanted), *self._table.event_shape), dtype=self._table.dtype)
        shards = np.searchsorted(self._stops, wanted, side="right") - 1
        for shard in np.unique(shards):
            rows = np.flatnonzero(shards == shard)
            examples[rows] = self._read(int(shard), wanted[rows] - self._stops[shard], wanted[rows])
        numbers = to_numbers(examples, str(self._folder))
        self._check_finite(numbers, wanted)
        return channels_first(numbers)

    @abstractmethod
    def _open(self, shard: Shard, path: Path) -> Open:
        """Open one shard after comparing its size with the index."""

    @abstractmethod
    def _read(self, number: int, rows: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return the stored examples in these rows of a shard; ``indices`` are their global indices."""

    def _close(self, opened: Open) -> None:
        """Close a shard."""

    def _opened(self, number: int) -> Open:
        """Return the open shard."""
        if number not in self._open_shards:
            shard = self._table.shards[number]
            path = self._folder / shard.name
            num_bytes = path.stat().st_size
            if num_bytes != shard.num_bytes:
                raise ValueError(
                    f"{path}: has {num_bytes} bytes, but had {shard.num_bytes} when the folder was indexed; put the "
                    f"old file back, or remove {self._folder / '.fastvae-index'} and start a new run"
                )
            while len(self._open_shards) >= _MAX_OPEN:
                self._close(self._open_shards.popitem(last=False)[1])
            self._open_shards[number] = self._open(shard, path)
        self._open_shards.move_to_end(number)
        return self._open_shards[number]

    def _check_finite(self, examples: Tensor, indices: NDArray[np.int64]) -> None:
        if not examples.is_floating_point() or not examples.numel():
            return
        finite = torch.isfinite(examples).flatten(1).all(dim=1).numpy()
        if not finite.all():
            index = int(indices[np.flatnonzero(~finite)[0]])
            number = int(np.searchsorted(self._stops, index, side="right")) - 1
            raise ValueError(
                f"{self._folder / self._table.shards[number].name}: every number must be finite, got NaN or infinity "
                f"in example {index - int(self._stops[number])}"
            )


class NpyShards(ShardedSource["np.memmap[tuple[int, ...], np.dtype[np.generic]]"]):
    """A folder of ``.npy`` files, each ``[n, ...]`` with the same shape and type except n.

    Raises:
        ValueError: a file is not such an array, is in Fortran order or truncated, or differs from the others.
    """

    def __init__(self, folder: Path) -> None:
        table, _ = load_table(folder, ".npy", lambda names, _: _describe(folder, names))
        super().__init__(folder, table)

    def _open(self, shard: Shard, path: Path) -> np.memmap[tuple[int, ...], np.dtype[np.generic]]:
        shape = (shard.num_examples, *self._table.event_shape)
        return np.memmap(path, dtype=self._table.dtype, mode="r", offset=shard.offset, shape=shape)

    def _read(self, number: int, rows: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.generic]:
        return self._opened(number)[rows]


def _describe(folder: Path, names: list[str]) -> Table:
    """Build the index of ``.npy`` shards from their headers."""
    shards: list[Shard] = []
    kinds: list[tuple[tuple[int, ...], str]] = []
    for name in names:
        path = folder / name
        with path.open("rb") as file:
            shape, fortran_order, dtype = read_header(file, str(path))
            offset = file.tell()
        expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if fortran_order:
            raise ValueError(f"{path}: must be in C order; save it with numpy.save(path, numpy.ascontiguousarray(x))")
        if path.stat().st_size != expected:
            raise ValueError(f"{path}: truncated or too long: {path.stat().st_size} bytes, {expected} expected")
        if dtype.kind in "iu" and dtype != np.uint8:
            raise ValueError(f"{path}: pixels in shards must be uint8, got {dtype}; convert them, or save float32")
        if len(shape) < 2 or 0 in shape[1:]:
            raise ValueError(f"{path}: must be [n, ...] with at least one number per example, got {list(shape)}")
        if kinds and kinds[0] != (shape[1:], dtype.str):
            raise ValueError(f"{path}: all shards must be alike; {names[0]} has {kinds[0]}, this one {shape[1:]}")
        kinds.append((shape[1:], dtype.str))
        shards.append(Shard(name=name, num_bytes=expected, num_examples=shape[0], offset=offset))
    if not sum(shard.num_examples for shard in shards):
        raise ValueError(f"{folder}: the shards contain no examples")
    return Table(shards=tuple(shards), event_shape=kinds[0][0], dtype=kinds[0][1])


class EverySource(Source):
    """Every ``every``-th example of a source, counted from 0, or all the others: by arithmetic, without a list."""

    in_memory = False

    def __init__(self, source: Source, every: int, *, others: bool) -> None:
        self._source, self._every, self._others = source, every, others
        self.event_shape, self.dtype, self.levels = source.event_shape, source.dtype, source.levels
        self.is_array, self.is_random, self.is_decoded = source.is_array, source.is_random, source.is_decoded
        num_taken = -(-len(source) // every)
        self._length = len(source) - num_taken if others else num_taken
        if self._length == 0:
            raise ValueError(f"EverySource: {len(source)} examples are too few for every={every}")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._source[self._in_source(indices)]

    def drawn(self, indices: Tensor, draws: Draws) -> Any:
        return self._source.drawn(self._in_source(indices), draws)

    def _in_source(self, indices: Tensor) -> Tensor:
        if not self._others:
            return indices * self._every
        return indices + torch.div(indices, self._every - 1, rounding_mode="floor") + 1

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[len(self)]``, or None; of the others they are gathered when asked for."""
        labels = self._source.labels
        if labels is None or not self._others:
            return labels if labels is None else labels[:: self._every]
        return labels[torch.arange(len(labels)) % self._every != 0]


def split_on_demand(source: Source, test_every: int) -> tuple[Source, Source]:
    """Train and test part as `fastvae.data.views.split_every`, without a list of indices."""
    train, test = (EverySource(source, test_every, others=others) for others in (True, False))
    return train, test

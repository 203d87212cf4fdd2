"""The sharded, resumable stream of batches: a pure function of the step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastvae.data.order import BUCKET_WINDOW, MAX_SEED, bucketed_order, order_index, share
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Source
from fastvae.ops import noise_key
from fastvae.records import Batch

_ORDER_BLOCK = 8192  # positions put in order at once: fills NumPy's loops, and is 64 KiB


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Consecutive examples of one global batch, with the key of their noise."""

    batch: Batch
    key: Tensor  # int64 [3]: (seed, step, first_row)
    first_row: int  # place of the first example in the global batch (in evaluation: in the data set)
    size: int  # number of examples; may be 0


@dataclass(frozen=True, kw_only=True)
class RawMicroBatch:
    """The same before preprocessing: what was read for it."""

    raw: Any
    """What the source gave for the examples."""
    condition: Tensor | None
    """float32 ``[B, C]``, where the source has conditions."""
    indices: Tensor
    """int64 ``[B]``, the examples in their source."""
    key: Tensor
    """int64 ``[3]``, of their noise."""
    first_row: int
    """Place of the first example in the global batch."""

    def to(self, device: torch.device) -> RawMicroBatch:
        """The same on ``device``, but for the indices."""
        condition = None if self.condition is None else self.condition.to(device)
        return replace(self, raw=self.raw.to(device), condition=condition, key=self.key.to(device))


class Loader:
    """Training batches of one rank.

    Step ``s`` takes the positions ``[s * global_batch_size, (s + 1) * global_batch_size)`` of the endless stream that
    ``order_index`` defines; rank ``rank`` takes its contiguous share of them, cut into ``accumulation`` micro-batches.
    Where examples differ in length, those of 64 global batches are sorted by it first, see ``bucketed_order``.
    Nothing is remembered between steps but a table of indices, so any step can be loaded at any time.

    Args:
        source: the training examples.
        preprocess: makes the batch of raw examples.
        global_batch_size: examples per step over all ranks, at most ``len(source)``.
        seed: the run's seed, ``0 .. 2**32 - 1``: of the order, and of the noise keys.
        rank, world_size: this process among all.
        accumulation: micro-batches per step and rank.
        device: where the batches go; preprocessing runs there.

    Raises:
        ValueError: a number is out of its range; the rule and the value are named.
    """

    def __init__(
        self,
        source: Source,
        preprocess: Preprocessor,
        *,
        global_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_world(rank, world_size, seed)
        if not 1 <= global_batch_size <= len(source):
            raise ValueError(
                f"Loader: global_batch_size must be in 1 .. {len(source)}, the number of training examples, "
                f"got {global_batch_size}; use a smaller batch or more data"
            )
        if accumulation < 1:
            raise ValueError(f"Loader: accumulation must be at least 1, got {accumulation}")
        self._source, self._preprocess, self._seed = source, preprocess, seed
        self._global_batch_size, self._device = global_batch_size, torch.device(device)
        self._start, self._stop = share(global_batch_size, world_size, rank)
        local_shares = (share(self._stop - self._start, accumulation, part) for part in range(accumulation))
        self._micro_shares = [(self._start + start, self._start + stop) for start, stop in local_shares]
        self._steps_per_block = max(1, _ORDER_BLOCK // max(1, self._stop - self._start))
        if source.lengths is not None:
            self._steps_per_block = BUCKET_WINDOW
        self._block, self._block_number = torch.empty((0, 0), dtype=torch.int64), -1

    def load(self, step: int) -> list[MicroBatch]:
        """The micro-batches of ``step``: exactly ``accumulation``, in order; some are empty when the shares are small.

        Raises:
            ValueError: ``step`` is not in ``0 .. 2**32 - 1``.
        """
        raws = self.read(step)
        if self._device.type != "cpu":
            raws = [raw.to(self._device) for raw in raws]
        return [self.prepare(raw) for raw in raws]

    def read(self, step: int) -> list[RawMicroBatch]:
        """What ``load`` preprocesses, in the host's memory.

        Raises:
            ValueError: ``step`` is not in ``0 .. 2**32 - 1``.
        """
        return self._read(self.indices(step), [noise_key(self._seed, step, first) for first in self.first_rows])

    def prepare(self, raw: RawMicroBatch) -> MicroBatch:
        """The micro-batch of what was read, where it lies now."""
        return _prepare(self._preprocess, raw, evaluation=False)

    def make(self, indices: Tensor, keys: Sequence[Tensor]) -> list[MicroBatch]:
        """The micro-batches of these examples, int64 ``[local batch]``, with a noise key for each."""
        return [self.prepare(raw) for raw in self._read(indices, keys)]

    def _read(self, indices: Tensor, keys: Sequence[Tensor]) -> list[RawMicroBatch]:
        return [
            _read(self._source, indices[first - self._start : last - self._start], key, first)
            for (first, last), key in zip(self._micro_shares, keys, strict=True)
        ]

    def resident(self) -> Loader:
        """The same loader with its examples on its device, where ``make`` takes indices that are there.

        Raises:
            ValueError: the examples cannot be held there.
        """
        moved = copy.copy(self)
        moved._source = self._source.to(self._device)
        return moved

    @property
    def first_rows(self) -> list[int]:
        """Where each micro-batch's first example lies in the global batch."""
        return [first for first, _ in self._micro_shares]

    @property
    def device(self) -> torch.device:
        """Where the batches go."""
        return self._device

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self._seed

    def indices(self, step: int) -> Tensor:
        """The indices, int64 ``[local batch]``, of this rank's examples of ``step``."""
        if not 0 <= step < 2**32:
            raise ValueError(f"Loader: step must be in 0 .. 2**32 - 1, got {step}")
        number, place = divmod(step, self._steps_per_block)
        if number != self._block_number:
            self._block, self._block_number = self._order_block(number), number
        return self._block[place]

    def _order_block(self, number: int) -> Tensor:
        """Indices ``[steps, local batch]`` of a block of steps: one long call in place of many short ones."""
        if self._source.lengths is not None:
            batches = bucketed_order(number, self._source.lengths, self._global_batch_size, self._seed)
            return batches[:, self._start : self._stop]
        steps = number * self._steps_per_block + torch.arange(self._steps_per_block)
        positions = steps[:, None] * self._global_batch_size + torch.arange(self._start, self._stop)
        return order_index(positions, len(self._source), self._seed)


def evaluation_batches(
    source: Source,
    preprocess: Preprocessor,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[MicroBatch]:
    """This rank's contiguous share of the whole source, in order, with the keys of evaluation.

    The key of a batch is ``(seed, 0, index of its first example)`` and preprocessing sets the evaluation bit, so that
    no score depends on batch size, rank or training step. Every rank gets the same number of batches, because wrapped
    models may talk to each other in forward; the last may be empty.

    Raises:
        ValueError: a number is out of its range; the rule and the value are named.
    """
    _check_world(rank, world_size, seed)
    if batch_size < 1:
        raise ValueError(f"evaluation_batches: batch_size must be at least 1, got {batch_size}")
    return _evaluation_batches(source, preprocess, batch_size, seed, (rank, world_size), torch.device(device))


def load_examples(
    source: Source, preprocess: Preprocessor, indices: Tensor, *, seed: int, device: torch.device | str = "cpu"
) -> Batch:
    """Some examples of a source, named by their indices int64 ``[B]``, as evaluation sees them.

    Raises:
        ValueError: an index is not one of the source's.
    """
    outside = indices[(indices < 0) | (indices >= len(source))]
    if len(outside):
        raise ValueError(f"examples are numbered 0 .. {len(source) - 1}, got {int(outside[0])}")
    key = noise_key(seed, 0, int(indices[0]) if len(indices) else 0, device=device)
    return _evaluated(source, preprocess, indices, key, 0).batch


def _evaluation_batches(
    source: Source, preprocess: Preprocessor, batch_size: int, seed: int, world: tuple[int, int], device: torch.device
) -> Iterator[MicroBatch]:
    rank, world_size = world
    start, stop = share(len(source), world_size, rank)
    largest_share = -(-len(source) // world_size)
    for offset in range(0, largest_share, batch_size):
        first, last = min(start + offset, stop), min(start + offset + batch_size, stop)
        key = noise_key(seed, 0, first, device=device)
        yield _evaluated(source, preprocess, torch.arange(first, last), key, first)


def _evaluated(source: Source, preprocess: Preprocessor, indices: Tensor, key: Tensor, first_row: int) -> MicroBatch:
    return _prepare(preprocess, _read(source, indices, key, first_row).to(key.device), evaluation=True)


def _read(source: Source, indices: Tensor, key: Tensor, first_row: int) -> RawMicroBatch:
    condition = None if source.conditions is None else source.conditions.index_select(0, indices)
    return RawMicroBatch(raw=source[indices], condition=condition, indices=indices, key=key, first_row=first_row)


def _prepare(preprocess: Preprocessor, raw: RawMicroBatch, *, evaluation: bool) -> MicroBatch:
    batch = preprocess(raw.raw, raw.key, indices=raw.indices, evaluation=evaluation)
    if raw.condition is not None:
        batch = replace(batch, condition=raw.condition)
    return MicroBatch(batch=batch, key=raw.key, first_row=raw.first_row, size=len(raw.indices))


def _check_world(rank: int, world_size: int, seed: int) -> None:
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"data: rank must be in 0 .. world_size - 1, got rank={rank}, world_size={world_size}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"data: seed must be in 0 .. 2**32 - 1, got {seed}")

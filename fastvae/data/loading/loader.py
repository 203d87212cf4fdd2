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

_ORDER_BLOCK = 8192  # positions that are ordered at once: fills NumPy's loops, and is 64 KiB


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Consecutive examples of one global batch, with the key of their noise."""

    batch: Batch
    key: Tensor  # int64 [3]: (seed, step, first_row)
    first_row: int  # index of the first example in the global batch (in evaluation: in the data set)
    size: int  # number of examples; may be 0


@dataclass(frozen=True, kw_only=True)
class RawMicroBatch:
    """A micro-batch before preprocessing."""

    raw: Any
    """Raw examples of the source."""
    condition: Tensor | None
    """float32 ``[B, C]``, if the source has conditions."""
    indices: Tensor
    """int64 ``[B]``, indices of the examples in their source."""
    key: Tensor
    """int64 ``[3]``, key of their noise."""
    first_row: int
    """Index of the first example in the global batch."""

    def to(self, device: torch.device) -> RawMicroBatch:
        """Move it to ``device``, except the indices."""
        condition = None if self.condition is None else self.condition.to(device)
        return replace(self, raw=self.raw.to(device), condition=condition, key=self.key.to(device))


class Loader:
    """Training batches of one rank.

    Step ``s`` takes the positions ``[s * global_batch_size, (s + 1) * global_batch_size)`` of the endless stream that
    ``order_index`` defines; rank ``rank`` takes its contiguous share of them, cut into ``accumulation`` micro-batches.
    If examples differ in length, those of 64 global batches are sorted by it first, see ``bucketed_order``.
    The only state between steps is a cache of indices, so any step can be loaded at any time.

    Args:
        source: the training examples.
        preprocess: converts raw examples to a batch.
        global_batch_size: examples per step over all ranks, at most ``len(source)``.
        seed: the run's seed, ``0 .. 2**32 - 1``: for the order and the noise keys.
        rank, world_size: rank of this process and number of processes.
        accumulation: micro-batches per step and rank.
        device: device of the batches, on which preprocessing runs.

    Raises:
        ValueError: a number is out of its range; the message states the rule and the value.
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
        """The micro-batches of ``step``: exactly ``accumulation``, in order; some are empty if there are few examples.

        Raises:
            ValueError: ``step`` is not in ``0 .. 2**32 - 1``.
        """
        raws = self.read(step)
        if self._device.type != "cpu":
            raws = [raw.to(self._device) for raw in raws]
        return [self.prepare(raw) for raw in raws]

    def read(self, step: int) -> list[RawMicroBatch]:
        """Read the raw examples of a step into host memory.

        Raises:
            ValueError: ``step`` is not in ``0 .. 2**32 - 1``.
        """
        return self._read(self.indices(step), [noise_key(self._seed, step, first) for first in self.first_rows])

    def prepare(self, raw: RawMicroBatch) -> MicroBatch:
        """Preprocess raw examples on their device."""
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
        """Return a loader whose examples are stored on its device, so that ``make`` accepts indices there.

        Raises:
            ValueError: the examples cannot be stored there.
        """
        moved = copy.copy(self)
        moved._source = self._source.to(self._device)
        return moved

    @property
    def first_rows(self) -> list[int]:
        """The index in the global batch of each micro-batch's first example."""
        return [first for first, _ in self._micro_shares]

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
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
        """Indices ``[steps, local batch]`` of a block of steps: one long call instead of many short ones."""
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
    """Yield this rank's contiguous share of the source, in order, with keys of evaluation.

    The key of a batch is ``(seed, 0, index of its first example)`` and preprocessing sets the evaluation bit, so that
    no score depends on batch size, rank or training step. Every rank gets the same number of batches, because wrapped
    models may communicate in forward; the last may be empty.

    Raises:
        ValueError: a number is out of its range; the message states the rule and the value.
    """
    _check_world(rank, world_size, seed)
    if batch_size < 1:
        raise ValueError(f"evaluation_batches: batch_size must be at least 1, got {batch_size}")
    return _evaluation_batches(source, preprocess, batch_size, seed, (rank, world_size), torch.device(device))


def evaluation_batch(
    source: Source, preprocess: Preprocessor, first: int, stop: int, *, seed: int, device: torch.device | str = "cpu"
) -> MicroBatch:
    """Return the examples ``[first, stop)`` of a source with their key, as `evaluation_batches` does."""
    key = noise_key(seed, 0, first, device=device)
    return _evaluated(source, preprocess, torch.arange(first, stop), key, first)


def load_examples(
    source: Source, preprocess: Preprocessor, indices: Tensor, *, seed: int, device: torch.device | str = "cpu"
) -> Batch:
    """Return examples of a source at indices int64 ``[B]``, as in evaluation.

    Raises:
        ValueError: an index is out of range.
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
        yield evaluation_batch(source, preprocess, first, last, seed=seed, device=device)


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

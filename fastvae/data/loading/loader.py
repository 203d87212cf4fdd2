"""The sharded, resumable stream of batches: a pure function of the step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fastvae.data.loading.bad_examples import BAD_EXAMPLE, replace_bad
from fastvae.data.loading.micro_batches import MicroBatch, RawMicroBatch, prepare, read_raw
from fastvae.data.loading.settings import Loading
from fastvae.data.order import BUCKET_WINDOW, MAX_SEED, bucketed_order, order_index, share
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Draws, Source
from fastvae.ops import noise_key

_ORDER_BLOCK = 8192  # positions that are ordered at once: fills NumPy's loops, and is 64 KiB


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
        loading: worker processes that a `Prefetcher` reads the batches with.

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
        loading: Loading | None = None,
    ) -> None:
        check_world(rank, world_size, seed)
        if not 1 <= global_batch_size <= len(source):
            raise ValueError(
                f"Loader: global_batch_size must be in 1 .. {len(source)}, the number of training examples, "
                f"got {global_batch_size}; use a smaller batch or more data"
            )
        if accumulation < 1:
            raise ValueError(f"Loader: accumulation must be at least 1, got {accumulation}")
        self._source, self._preprocess, self._seed = source, preprocess, seed
        self._global_batch_size, self._device = global_batch_size, torch.device(device)
        self.loading = loading or Loading()
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
        indices = self.indices(step)
        keys = [noise_key(self._seed, step, first) for first in self.first_rows]
        return self._read(indices, keys, self._visits(step) if self._source.is_random else None)

    def prepare(self, raw: RawMicroBatch) -> MicroBatch:
        """Preprocess raw examples on their device."""
        return prepare(self._preprocess, raw, evaluation=False)

    def make(self, indices: Tensor, keys: Sequence[Tensor]) -> list[MicroBatch]:
        """The micro-batches of these examples, int64 ``[local batch]``, with a noise key for each."""
        return [self.prepare(raw) for raw in self._read(indices, keys)]

    def _read(self, indices: Tensor, keys: Sequence[Tensor], visits: Tensor | None = None) -> list[RawMicroBatch]:
        parts = []
        for (first, last), key in zip(self._micro_shares, keys, strict=True):
            part = slice(first - self._start, last - self._start)
            draws = None if visits is None else Draws(seed=self._seed, visits=visits[part])
            parts.append(self._read_part(indices[part], key, first, draws))
        return parts

    def _read_part(self, indices: Tensor, key: Tensor, first_row: int, draws: Draws | None) -> RawMicroBatch:
        if self.loading.on_bad_example == "stop":
            return read_raw(self._source, indices, key, first_row, draws)
        try:
            return read_raw(self._source, indices, key, first_row, draws)
        except BAD_EXAMPLE:
            good, reasons = replace_bad(self._source, indices, self._seed)
            return replace(read_raw(self._source, good, key, first_row, draws), replaced=reasons)

    def _visits(self, step: int) -> Tensor:
        """The epoch, int64 ``[local batch]``, in which each example of a step is seen."""
        return (step * self._global_batch_size + torch.arange(self._start, self._stop)) // len(self._source)

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
    def source(self) -> Source:
        """The training examples."""
        return self._source

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


def check_world(rank: int, world_size: int, seed: int) -> None:
    """ValueError unless the rank and the seed are in their ranges."""
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"data: rank must be in 0 .. world_size - 1, got rank={rank}, world_size={world_size}")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"data: seed must be in 0 .. 2**32 - 1, got {seed}")

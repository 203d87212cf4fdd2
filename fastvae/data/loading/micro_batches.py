"""Micro-batches: consecutive examples of one global batch, before and after preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Draws, Source
from fastvae.records import Batch


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
    replaced: tuple[str, ...] = ()
    """Why an example could not be read, for each that another one stands for."""

    def to(self, device: torch.device) -> RawMicroBatch:
        """Move it to ``device``, except the indices."""
        condition = None if self.condition is None else self.condition.to(device)
        return replace(self, raw=self.raw.to(device), condition=condition, key=self.key.to(device))


def read_raw(source: Source, indices: Tensor, key: Tensor, first_row: int, draws: Draws | None = None) -> RawMicroBatch:
    """Read the examples at ``indices`` of a source, with their random transformations if ``draws`` is given."""
    condition = None if source.conditions is None else source.conditions.index_select(0, indices)
    raw = source[indices] if draws is None else source.drawn(indices, draws)
    return RawMicroBatch(raw=raw, condition=condition, indices=indices, key=key, first_row=first_row)


def prepare(preprocess: Preprocessor, raw: RawMicroBatch, *, evaluation: bool) -> MicroBatch:
    """Preprocess raw examples on their device."""
    batch = preprocess(raw.raw, raw.key, indices=raw.indices, evaluation=evaluation)
    if raw.condition is not None:
        batch = replace(batch, condition=raw.condition)
    return MicroBatch(batch=batch, key=raw.key, first_row=raw.first_row, size=len(raw.indices))

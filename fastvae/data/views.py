"""Parts of a source: subsets, chunks of indices, a representative sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.data.source import CHUNK_ROWS, Draws, Source, TensorSource

_SAMPLE = 4096  # size of the sample of a source that is not in memory
_DECODED_SAMPLE = 512  # if each example takes milliseconds
_PIECE = 64


class SubsetSource(Source):
    """Examples of another source at indices ``[M]``."""

    def __init__(self, source: Source, indices: Tensor) -> None:
        if indices.numel() == 0:
            raise ValueError(f"SubsetSource: at least one of the {len(source)} examples must be selected, got none")
        self._source, self._indices = source, indices
        self.event_shape, self.dtype, self.levels = source.event_shape, source.dtype, source.levels
        self.in_memory, self.is_array = source.in_memory, source.is_array
        self.conditions = None if source.conditions is None else source.conditions.index_select(0, indices)
        self.lengths = None if source.lengths is None else source.lengths[indices]
        self.ids = None if source.ids is None else source.ids[indices.numpy()]
        self.is_random, self.is_decoded = source.is_random, source.is_decoded

    def __len__(self) -> int:
        return self._indices.numel()

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._source[self._indices.index_select(0, indices)]

    def drawn(self, indices: Tensor, draws: Draws) -> Any:
        return self._source.drawn(self._indices.index_select(0, indices), draws)

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[M]``: labels of the selected examples, or None."""
        return self.attribute("label")

    def attribute(self, name: str) -> Tensor | None:
        """The attribute of the selected examples, ``[M]``, or None."""
        known = self._source.attribute(name)
        return None if known is None else known.index_select(0, self._indices)


def split_every(source: Source, test_every: int) -> tuple[Source, Source]:
    """Train and test part of one source: every ``test_every``-th example, counted from 0, is a test example.

    Raises:
        ValueError: ``test_every < 2``, or fewer than two examples.
    """
    if test_every < 2 or len(source) < 2:
        raise ValueError(
            f"split_every: a split needs test_every >= 2 and at least two examples, "
            f"got test_every={test_every} and {len(source)} examples"
        )
    indices = torch.arange(len(source))
    is_test = indices % test_every == 0
    return take(source, indices[~is_test]), take(source, indices[is_test])


def take(source: Source, indices: Tensor) -> Source:
    """The examples at ``indices``: in memory if ``source`` is, else a view."""
    if not isinstance(source, TensorSource):
        return SubsetSource(source, indices)
    labels, conditions = source.labels, source.conditions
    taken = TensorSource(source[indices], None if labels is None else labels[indices], levels=source.levels)
    taken.conditions = None if conditions is None else conditions[indices]
    return taken


def chunks(num_examples: int) -> list[Tensor]:
    """Yield all indices ``0 .. num_examples - 1``, a few thousand at a time."""
    return list(torch.arange(num_examples).split(CHUNK_ROWS))


def looked_at(source: Source) -> list[Tensor]:
    """Yield representative indices of a source, a few thousand at a time: all of them if it is in memory.

    Otherwise at most 4096 (512 if each has to be decoded), evenly spaced, so that the start does not depend on the
    number of examples.
    """
    if source.in_memory:
        return chunks(len(source))
    return [evenly_spaced(len(source), min(len(source), _DECODED_SAMPLE if source.is_decoded else _SAMPLE))]


def evenly_spaced(num_examples: int, num_taken: int) -> Tensor:
    """Indices [num_taken] that are evenly spaced in ``0 .. num_examples - 1``."""
    return torch.arange(num_taken) * num_examples // num_taken


def check_varied(source: Source, name: str) -> None:
    """ValueError if all of several examples are identical; reads up to the first that differs."""
    first = source[torch.zeros(1, dtype=torch.int64)]
    pieces = (piece for indices in looked_at(source) for piece in indices.split(_PIECE))
    if len(source) > 1 and all(bool((source[piece] == first).all()) for piece in pieces):
        raise ValueError(
            f"{name}: all {len(source)} examples are the same, there is nothing to learn from them; check how the file "
            "was made"
        )

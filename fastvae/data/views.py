"""Parts of a source: some of its examples, a few thousand at a time, those that stand for the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from fastvae.data.source import CHUNK_ROWS, Source, TensorSource

_SAMPLE = 4096  # examples that stand for a source that is not in memory


class SubsetSource(Source):
    """Some examples of another source, named by their indices ``[M]`` there."""

    def __init__(self, source: Source, indices: Tensor) -> None:
        if indices.numel() == 0:
            raise ValueError(f"SubsetSource: at least one of the {len(source)} examples must be taken, got none")
        self._source, self._indices = source, indices
        self.event_shape, self.dtype, self.levels = source.event_shape, source.dtype, source.levels
        self.conditions = None if source.conditions is None else source.conditions.index_select(0, indices)
        self.lengths = None if source.lengths is None else source.lengths[indices]
        self.ids = None if source.ids is None else source.ids[indices.numpy()]

    def __len__(self) -> int:
        return self._indices.numel()

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._source[self._indices.index_select(0, indices)]

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[M]``: those of the examples taken, or None."""
        return self.attribute("label")

    def attribute(self, name: str) -> Tensor | None:
        """What the other source knows of the examples taken, ``[M]``, or None."""
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
    """All indices ``0 .. num_examples - 1``, a few thousand at a time."""
    return list(torch.arange(num_examples).split(CHUNK_ROWS))


def looked_at(source: Source) -> list[Tensor]:
    """The indices that stand for the whole of a source, a few thousand at a time: all of them where it is in memory.

    Else they are at most 4096, evenly spread, so that a start takes no longer however many examples there are.
    """
    if source.in_memory:
        return chunks(len(source))
    num_taken = min(len(source), _SAMPLE)
    return [torch.arange(num_taken) * len(source) // num_taken]


def check_varied(source: Source, name: str) -> None:
    """ValueError where all of several examples are the same, number by number; reads up to the first that differs."""
    first = source[torch.zeros(1, dtype=torch.int64)]
    if len(source) > 1 and all(bool((source[indices] == first).all()) for indices in looked_at(source)):
        raise ValueError(
            f"{name}: all {len(source)} examples are the same, there is nothing to learn from them; check how the file "
            "was made"
        )

"""Other examples in the place of those that cannot be read, the same ones on any number of processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.data.loading.settings import OnBadExample
from fastvae.data.order import order_index
from fastvae.data.source import Source

BAD_EXAMPLE = (ValueError, OSError, RuntimeError, LookupError, TypeError)
"""Errors of an example that cannot be read: a damaged file, one that is gone, or whatever a user's data set raises."""
_SPARE_EPOCH = 2**31  # far behind the epochs of any run
_MAX_TRIES = 100


def replace_bad(source: Source, indices: Tensor, seed: int) -> tuple[Tensor, tuple[str, ...]]:
    """Return indices int64 ``[B]`` of which every example can be read, and why each of the others could not.

    The example that replaces example ``i`` is the one at place ``i`` of an order of its own; if that cannot be read
    either, of the next such order. So it depends on the seed and ``i`` only.

    Raises:
        ValueError: a hundred examples in turn could not be read.
    """
    good, reasons = indices.clone(), []
    for row, index in enumerate(indices.tolist()):
        reason = _why_bad(source, index)
        if reason is not None:
            reasons.append(reason)
            good[row] = _spare(source, index, seed, reason)
    return good, tuple(reasons)


def read_good(source: Source, indices: Tensor, on_bad_example: OnBadExample) -> tuple[Any, int]:
    """Return the raw examples at ``indices``, and their number; with ``replace``, without those that cannot be read."""
    try:
        return source[indices], len(indices)
    except BAD_EXAMPLE:
        good = [index for index in indices.tolist() if _why_bad(source, index) is None]
        if on_bad_example == "stop" or not good:
            raise
    return source[torch.tensor(good)], len(good)


def _spare(source: Source, index: int, seed: int, reason: str) -> int:
    num_examples = len(source)
    for attempt in range(_MAX_TRIES):
        place = torch.tensor([index + (_SPARE_EPOCH + attempt) * num_examples])
        spare = int(order_index(place, num_examples, seed))
        if _why_bad(source, spare) is None:
            return spare
    raise ValueError(f"{reason}; and {_MAX_TRIES} examples that were tried instead could not be read either")


def _why_bad(source: Source, index: int) -> str | None:
    try:
        source[torch.tensor([index])]
    except BAD_EXAMPLE as error:
        return str(error)
    return None

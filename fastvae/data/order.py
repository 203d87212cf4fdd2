"""The order of examples: a keyed bijection of (seed, epoch, position), computed index by index."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Positions = TypeVar("Positions", Tensor, NDArray[np.int64])
Words = NDArray[np.uint64]

MAX_EXAMPLES = 2**62  # so that the power of two above it still fits a signed word
MAX_SEED = 2**32 - 1

BUCKET_WINDOW = 64
"""Global batches among which examples are sorted by length."""

# With 16 rounds all orders of 2 to 6 examples are equally frequent (chi-square over 120 000 epochs); with 12 not yet.
_ROUNDS = 16
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: the increment of SplitMix64


def order_index(positions: Positions, num_examples: int, seed: int) -> Positions:
    """Return the example at each position of the infinite training stream.

    Epoch ``e`` consists of the positions ``[e * num_examples, (e + 1) * num_examples)``; over them the result takes
    each index ``0 .. num_examples - 1`` exactly once, in an order keyed by ``(seed, e)``. Positions count on across
    epochs, so one call may straddle two of them.

    The order is an alternating Feistel network on the smallest power of two that holds ``num_examples``, with cycle
    walking back into the range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). Memory and
    time grow with ``len(positions)``, never with ``num_examples``.

    Args:
        positions: int64 tensor or array of any shape, all >= 0.
        num_examples: size of the data set, ``1 .. 2**62``.
        seed: the run's seed, ``0 .. 2**32 - 1``.

    Returns:
        int64 indices, of the kind and shape of ``positions`` (a tensor stays on its device).

    Raises:
        ValueError: a number is out of its range.
        TypeError: ``positions`` are not int64.
    """
    _check_range("num_examples", num_examples, 1, MAX_EXAMPLES)
    _check_range("seed", seed, 0, MAX_SEED)
    if isinstance(positions, Tensor):
        indices = _order(positions.detach().cpu().numpy(), num_examples, seed)
        return torch.from_numpy(indices).to(positions.device)
    return _order(np.asarray(positions), num_examples, seed)


def bucketed_order(window: int, lengths: Tensor, global_batch_size: int, seed: int) -> Tensor:
    """The examples of the global batches of one window, grouped by similar length to reduce padding.

    The examples are those of `order_index` at the window's positions. They are sorted by length, cut into
    batches, and the batches put in an order keyed by ``(seed, window)``, so that lengths are in random order.

    Args:
        window: which window of `BUCKET_WINDOW` steps, counted from 0.
        lengths: int64 ``[N]``, lengths of all examples.
        global_batch_size: examples in one global batch.
        seed: the run's seed, ``0 .. 2**32 - 1``.

    Returns:
        int64 indices ``[BUCKET_WINDOW, global_batch_size]``, one row a step.
    """
    size = BUCKET_WINDOW * global_batch_size
    indices = order_index(window * size + torch.arange(size), len(lengths), seed)
    batches = indices[lengths[indices].argsort(stable=True)].view(BUCKET_WINDOW, global_batch_size)
    return batches[order_index(window * BUCKET_WINDOW + torch.arange(BUCKET_WINDOW), BUCKET_WINDOW, seed)]


def share(total: int, parts: int, part: int) -> tuple[int, int]:
    """The contiguous share ``[start, stop)`` of ``part`` when ``total`` items are divided into ``parts``.

    Shares follow each other without gaps, and their sizes differ by at most one (the first ones are the larger).

    Raises:
        ValueError: ``total < 0``, ``parts < 1``, or ``part`` not in ``0 .. parts - 1``.
    """
    if total < 0 or parts < 1 or not 0 <= part < parts:
        raise ValueError(
            f"share: total must be >= 0, parts >= 1 and part in 0 .. parts - 1, "
            f"got total={total}, parts={parts}, part={part}"
        )
    size, larger = divmod(total, parts)
    start = part * size + min(part, larger)
    return start, start + size + (part < larger)


def _order(positions: NDArray[np.int64], num_examples: int, seed: int) -> NDArray[np.int64]:
    if positions.dtype != np.int64:
        raise TypeError(f"order_index: positions must be int64, got {positions.dtype}; use positions.astype('int64')")
    if positions.size and int(positions.min()) < 0:
        raise ValueError(f"order_index: positions must be >= 0, got {int(positions.min())}")
    epochs, places = np.divmod(positions.reshape(-1), num_examples)
    keys = _mix(_mix(np.full(1, seed, np.uint64)) ^ epochs.view(np.uint64))
    num_bits = (num_examples - 1).bit_length()
    values = _feistel(places.view(np.uint64), keys, num_bits)
    outside = np.flatnonzero(values >= num_examples)
    while outside.size:  # fewer than half of the values are outside, so this ends after log2(size) rounds or so
        values[outside] = _feistel(values[outside], keys[outside], num_bits)
        outside = outside[values[outside] >= num_examples]
    return cast("NDArray[np.int64]", values.view(np.int64)).reshape(positions.shape)


def _feistel(values: Words, keys: Words, num_bits: int) -> Words:
    """A keyed bijection of ``0 .. 2**num_bits - 1``: the two parts of a value take turns in masking each other."""
    low_bits = np.uint64(num_bits // 2)
    low_mask = np.uint64((1 << (num_bits // 2)) - 1)
    high_mask = np.uint64((1 << (num_bits - num_bits // 2)) - 1)
    low, high = values & low_mask, values >> low_bits
    for number in range(0, _ROUNDS, 2):
        high = high ^ (_mix(low + _round_key(keys, number)) & high_mask)
        low = low ^ (_mix(high + _round_key(keys, number + 1)) & low_mask)
    return (high << low_bits) | low


def _round_key(keys: Words, number: int) -> Words:
    return keys + np.uint64(number * _GOLDEN % 2**64)


def _mix(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2**64 as NumPy's unsigned words are."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"order_index: {name} must be in {low} .. {high}, got {value}")

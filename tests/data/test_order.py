"""The order of examples: a bijection for every size, seed and epoch; parts without gaps."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvae.data import order_index, share

SEEDS = st.integers(0, 2**32 - 1)
GOLDEN = [2, 3, 0, 5, 4, 6, 8, 1, 7, 9, 4, 6]


def epoch_order(num_examples: int, seed: int, epoch: int) -> torch.Tensor:
    return order_index(torch.arange(epoch * num_examples, (epoch + 1) * num_examples), num_examples, seed)


@pytest.mark.parametrize("num_examples", [*range(1, 70), 127, 128, 129, 1000, 1437, 4095, 4096, 4097, 60000])
def test_every_epoch_contains_each_example_once(num_examples: int) -> None:
    for epoch in (0, 1, 7):
        assert torch.equal(epoch_order(num_examples, 3, epoch).sort().values, torch.arange(num_examples))


@settings(deadline=None)
@given(num_examples=st.integers(1, 5000), seed=SEEDS, epoch=st.integers(0, 2**40))
def test_every_epoch_contains_each_example_once_for_any_key(num_examples: int, seed: int, epoch: int) -> None:
    assert torch.equal(epoch_order(num_examples, seed, epoch).sort().values, torch.arange(num_examples))


@settings(deadline=None)
@given(num_examples=st.integers(1, 2**62), seed=SEEDS, positions=st.lists(st.integers(0, 2**63 - 1), max_size=50))
def test_an_index_depends_on_its_position_only(num_examples: int, seed: int, positions: list[int]) -> None:
    together = order_index(torch.tensor(positions, dtype=torch.int64), num_examples, seed)
    alone = [int(order_index(torch.tensor([position]), num_examples, seed)) for position in positions]
    assert together.tolist() == alone
    assert all(0 <= index < num_examples for index in alone)


def test_positions_continue_across_epochs() -> None:
    straddling = order_index(torch.arange(5, 25), 10, seed=1)
    whole = torch.cat([epoch_order(10, 1, epoch) for epoch in range(3)])
    assert torch.equal(straddling, whole[5:25])


def test_orders_differ_between_seeds_and_epochs() -> None:
    orders = {tuple(epoch_order(100, seed, epoch).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@pytest.mark.parametrize("num_examples", [2, 3, 4, 5])
def test_all_orders_of_a_small_set_are_equally_frequent(num_examples: int) -> None:
    num_epochs, num_orders = 40_000, math.factorial(num_examples)
    orders = order_index(np.arange(num_epochs * num_examples), num_examples, seed=7).reshape(num_epochs, num_examples)
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    expected = num_epochs / num_orders
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert len(counts) == num_orders
    assert (chi_square - (num_orders - 1)) / math.sqrt(2 * (num_orders - 1)) < 5


def test_neighbours_are_uncorrelated() -> None:
    order = epoch_order(60_000, 11, 0).double()
    for lag in (1, 2, 128):
        correlation = torch.corrcoef(torch.stack([order[lag:], order[:-lag]]))[0, 1]
        assert abs(float(correlation)) * math.sqrt(len(order)) < 5
    between_epochs = torch.corrcoef(torch.stack([order, epoch_order(60_000, 11, 1).double()]))[0, 1]
    assert abs(float(between_epochs)) * math.sqrt(len(order)) < 5


def test_arrays_and_tensors_of_any_shape_agree() -> None:
    positions = torch.arange(24).view(2, 3, 4)
    indices = order_index(positions, 7, seed=5)
    assert indices.shape == positions.shape
    assert np.array_equal(order_index(positions.numpy(), 7, seed=5), indices.numpy())
    assert order_index(torch.empty(0, dtype=torch.int64), 7, seed=5).shape == (0,)


def test_the_order_of_a_billion_billion_examples_needs_no_memory() -> None:
    positions = torch.arange(10**18, 10**18 + 128)
    tracemalloc.start()
    indices = order_index(positions, 10**18 + 9, seed=0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(indices.tolist())) == 128
    assert peak_bytes < 1_000_000


def test_the_order_of_a_run_never_changes() -> None:
    """Golden values: a changed order would make old checkpoints resume with other batches."""
    assert order_index(torch.arange(12), 10, seed=42).tolist() == GOLDEN


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((torch.arange(3), 0, 1), ValueError, "num_examples must be in 1"),
        ((torch.arange(3), 2**62 + 1, 1), ValueError, "num_examples"),
        ((torch.arange(3), 5, -1), ValueError, "seed must be in 0"),
        ((torch.arange(3), 5, 2**32), ValueError, "seed"),
        ((torch.tensor([-1]), 5, 1), ValueError, "positions must be >= 0, got -1"),
        ((torch.tensor([1.0]), 5, 1), TypeError, "int64, got float32"),
    ],
)
def test_invalid_input_is_refused(arguments: tuple[torch.Tensor, int, int], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        order_index(*arguments)


@given(total=st.integers(0, 10**12), parts=st.integers(1, 300))
def test_parts_are_contiguous_and_balanced(total: int, parts: int) -> None:
    bounds = [share(total, parts, part) for part in range(parts)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == total
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("arguments", [(-1, 1, 0), (5, 0, 0), (5, 2, 2), (5, 2, -1)])
def test_share_refuses_impossible_parts(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="share: total must be >= 0"):
        share(*arguments)

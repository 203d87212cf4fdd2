"""The stream of batches: a pure function of the step, independent of world size and accumulation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastvae import noise_key
from fastvae.data import Loader, MicroBatch, Preprocess, as_source, evaluation_batches

SOURCE = as_source((torch.arange(23 * 4).view(23, 4) * 2).to(torch.uint8))
BINARY = Preprocess(levels=256, binarize=True)


def load(
    step: int, *, world_size: int = 1, accumulation: int = 1, global_batch_size: int = 10
) -> list[list[MicroBatch]]:
    """Return the micro-batches of every rank."""
    return [
        Loader(
            SOURCE,
            BINARY,
            global_batch_size=global_batch_size,
            seed=4,
            rank=rank,
            world_size=world_size,
            accumulation=accumulation,
        ).load(step)
        for rank in range(world_size)
    ]


def joined(ranks: Sequence[Sequence[MicroBatch]]) -> tuple[Tensor, Tensor]:
    micro_batches = [micro for rank in ranks for micro in rank]
    rows = [micro.batch.rows for micro in micro_batches if micro.batch.rows is not None]
    return torch.cat([micro.batch.x for micro in micro_batches]), torch.cat(rows)


@settings(deadline=None, max_examples=60)
@given(
    world_size=st.integers(1, 7),
    accumulation=st.integers(1, 5),
    global_batch_size=st.integers(1, 23),
    step=st.integers(0, 2**32 - 1),
)
def test_a_step_does_not_depend_on_the_split(
    world_size: int, accumulation: int, global_batch_size: int, step: int
) -> None:
    split = load(step, world_size=world_size, accumulation=accumulation, global_batch_size=global_batch_size)
    whole = load(step, global_batch_size=global_batch_size)
    for part, reference in zip(joined(split), joined(whole), strict=True):
        assert torch.equal(part, reference)
    place = 0
    for rank in split:
        assert len(rank) == accumulation  # every rank runs the same number of backward passes
        for micro in rank:
            assert micro.first_row == place
            assert micro.size == len(micro.batch)
            assert torch.equal(micro.key, noise_key(4, step, place))
            place += micro.size
    assert place == global_batch_size


def test_device_batch_sizes_differ_by_at_most_one() -> None:
    assert [[micro.size for micro in rank] for rank in load(0, world_size=3)] == [[4], [3], [3]]
    assert [[micro.size for micro in rank] for rank in load(0, world_size=2, accumulation=3, global_batch_size=4)] == [
        [1, 1, 0],
        [1, 1, 0],
    ]


def test_an_epoch_contains_every_example_once_and_batches_cross_epochs() -> None:
    loader = Loader(SOURCE, Preprocess(levels=256), global_batch_size=10, seed=0)
    rows = torch.cat([loader.indices(step) for step in range(23)])  # 230 positions: ten epochs, and no short batch
    for epoch in rows.view(10, 23):
        assert sorted(epoch.tolist()) == list(range(23))
    assert not torch.equal(rows[:23], rows[23:46])


def test_steps_can_be_loaded_in_any_order() -> None:
    source = as_source(torch.zeros(5000, 1))
    straight = Loader(source, Preprocess(), global_batch_size=3000, seed=1, world_size=2)
    forward = [straight.indices(step) for step in range(12)]
    jumping = Loader(source, Preprocess(), global_batch_size=3000, seed=1, world_size=2)
    for step in (11, 0, 5, 5, 2, 9):
        assert torch.equal(jumping.indices(step), forward[step])


def test_batches_contain_the_examples_of_their_indices() -> None:
    loader = Loader(SOURCE, Preprocess(levels=256), global_batch_size=7, seed=1)
    (micro,) = loader.load(3)
    assert micro.batch.rows is not None
    assert torch.equal((micro.batch.x * 255).round().to(torch.uint8), SOURCE[micro.batch.rows])


def test_another_seed_gives_another_order_and_noise() -> None:
    one, two = (Loader(SOURCE, BINARY, global_batch_size=23, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.indices(0), two.indices(0))
    assert not torch.equal(one.load(0)[0].batch.x, one.load(1)[0].batch.x)


@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 23), (1, 4), (2, 5), (3, 8), (5, 1), (30, 4)])
def test_evaluation_contains_every_example_once_with_its_own_noise(world_size: int, batch_size: int) -> None:
    ranks = [
        list(evaluation_batches(SOURCE, BINARY, batch_size=batch_size, seed=6, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    (whole,) = evaluation_batches(SOURCE, BINARY, batch_size=100, seed=6)
    x, rows = joined(ranks)
    assert rows.tolist() == list(range(23))
    assert torch.equal(x, whole.batch.x)
    assert len({len(rank) for rank in ranks}) == 1  # forward may be collective
    for micro in (micro for rank in ranks for micro in rank):
        assert torch.equal(micro.key, noise_key(6, 0, micro.first_row))
        assert micro.size <= batch_size


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"global_batch_size": 24}, "global_batch_size must be in 1 .. 23, the number of training examples, got 24"),
        ({"global_batch_size": 0}, "got 0"),
        ({"accumulation": 0}, "accumulation must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank=2, world_size=2"),
        ({"world_size": 0}, "world_size=0"),
        ({"seed": -1}, "seed must be in 0"),
        ({"seed": 2**32}, "seed must be in 0"),
    ],
)
def test_invalid_settings_are_refused(change: dict[str, int], words: str) -> None:
    settings = {"global_batch_size": 8, "seed": 0, **change}
    with pytest.raises(ValueError, match=words):
        Loader(SOURCE, BINARY, **settings)  # type: ignore[arg-type]


def test_invalid_steps_and_batch_sizes_are_refused() -> None:
    loader = Loader(SOURCE, BINARY, global_batch_size=8, seed=0)
    for step in (-1, 2**32):
        with pytest.raises(ValueError, match="step must be in 0"):
            loader.load(step)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluation_batches(SOURCE, BINARY, batch_size=0, seed=0)  # before the first batch is requested
    with pytest.raises(ValueError, match="rank=1"):
        evaluation_batches(SOURCE, BINARY, batch_size=1, seed=0, rank=1)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "preprocess", [Preprocess(levels=256), BINARY, Preprocess(levels=256, dequantize=True)], ids=lambda p: p.describe
)
def test_batches_made_on_a_gpu_equal_those_of_the_cpu(preprocess: Preprocess) -> None:
    cpu, gpu = (
        Loader(SOURCE, preprocess, global_batch_size=20, seed=0, accumulation=3, device=device)
        for device in ("cpu", "cuda")
    )
    for here, there in zip(cpu.load(7), gpu.load(7), strict=True):
        assert there.batch.x.is_cuda
        assert there.key.is_cuda
        assert torch.equal(here.batch.x, there.batch.x.cpu())
    (evaluated,) = evaluation_batches(SOURCE, preprocess, batch_size=23, seed=0, device="cuda")
    (reference,) = evaluation_batches(SOURCE, preprocess, batch_size=23, seed=0)
    assert torch.equal(evaluated.batch.x.cpu(), reference.batch.x)

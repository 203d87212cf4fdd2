"""The captured step, with a recorder that plays back on the CPU what it is given; the graphs themselves need a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
import torch

import fastvae
from fastvae.data import Loader, as_data
from fastvae.distributed import World, build_strategy
from fastvae.distributed.strategy import Strategy
from fastvae.objective import ObjectiveConfig, kl_weight_at
from fastvae.train import TrainConfig
from fastvae.train.capture import CapturedStep
from fastvae.train.guard import Guard, GuardConfig, GuardState
from fastvae.train.optim import build_optimizer, set_lr
from fastvae.train.step import train_step

T = TypeVar("T")
CPU = torch.device("cpu")
STEPS = 8


class Playback:
    """Records by remembering the function; like a graph it gives the same tensors each time, with new values."""

    def __init__(self) -> None:
        self.recorded = 0

    def warm_up(self, run: Callable[[], T]) -> T:
        return run()

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        self.recorded += 1
        return run


def settings(**changes: object) -> TrainConfig:
    objective = ObjectiveConfig(kl_schedule="linear", kl_warmup_steps=5)
    options = {"lr": 2.0**-8, "schedule": "constant", "global_batch_size": 30, "objective": objective, **changes}
    return TrainConfig(steps=STEPS, **options)  # type: ignore[arg-type]


def set_up(config: TrainConfig) -> tuple[Strategy, Loader, Guard]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (100, 6), generator=generator, dtype=torch.uint8)
    data = as_data(pixels, binarize="dynamic")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = fastvae.nn.MLPEncoder(6, 12, 3), fastvae.nn.MLPDecoder(3, 12, 6)
    strategy = build_strategy("single", World())
    strategy.setup(fastvae.VAE(encoder, decoder, fastvae.Bernoulli()), partial(build_optimizer, config))
    loader = Loader(
        data.train, data.preprocess, global_batch_size=30, seed=7, accumulation=config.accumulation, device=CPU
    )
    guard = Guard(GuardConfig(), GuardState(), CPU, 30, strategy.all_reduce_sum)
    return strategy, loader, guard


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("first_step", [0, 5])
def test_captured_steps_are_the_same_steps(accumulation: int, first_step: int) -> None:
    plain = settings(accumulation=accumulation, max_grad_norm=1.0)
    captured = settings(accumulation=accumulation, max_grad_norm=1.0, capture=True)
    weights, sums = [], []
    playback = Playback()
    for config in (plain, captured):
        strategy, loader, guard = set_up(config)
        step = CapturedStep(strategy, loader, config, guard, first_step, playback) if config.capture else None
        for number in range(first_step, first_step + STEPS):
            set_lr(strategy.optimizer, config.lr / 2 ** (number % 2))
            kl_weight = kl_weight_at(config.objective, number)
            if step is None:
                report, four = train_step(strategy, loader.load(number), config, kl_weight, guard)
            else:
                report, four = step(number, kl_weight)
            assert not report.skipped
            sums.append(four.clone())
        weights.append(torch.cat([p.detach().flatten() for p in strategy.model.parameters()]))
    assert playback.recorded == 1
    assert torch.equal(torch.stack(sums[:STEPS]), torch.stack(sums[STEPS:]))
    assert torch.equal(*weights)


def test_a_captured_step_that_is_not_finite_changes_nothing_and_is_noted() -> None:
    config = settings(capture=True)
    strategy, loader, guard = set_up(config)
    step = CapturedStep(strategy, loader, config, guard, 0, Playback())
    step(0, 1.0)
    list(guard.settle(1))
    before = [p.detach().clone() for p in strategy.model.parameters()]
    report, _ = step(1, float("nan"))
    assert report.skipped
    assert all(torch.equal(a, b) for a, b in zip(before, strategy.model.parameters(), strict=True))
    skipped = list(guard.settle(2))
    assert [(skip.step, skip.finite) for skip in skipped] == [(2, False)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_capture_without_a_gpu_says_so(tmp_path: object) -> None:
    model = fastvae.VAE(fastvae.nn.MLPEncoder(6, 4, 2), fastvae.nn.MLPDecoder(2, 4, 6), fastvae.Bernoulli())
    with pytest.raises(ValueError, match=r"train\.capture must be False but for one process on a GPU"):
        fastvae.train(
            model, torch.rand(40, 6), TrainConfig(steps=1, global_batch_size=4, capture=True), run_dir=tmp_path
        )  # type: ignore[arg-type]


def test_data_that_are_read_piece_by_piece_cannot_be_captured() -> None:
    source = fastvae.data.as_source([torch.rand(3) for _ in range(5)])
    with pytest.raises(ValueError, match=r"set train\.capture to False"):
        source.to("cpu")

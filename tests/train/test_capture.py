"""The captured step with a recorder that replays functions on the CPU; CUDA graphs themselves require a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastvae
from fastvae.data import Loader, as_data
from fastvae.distributed import World
from fastvae.objective import ObjectiveConfig
from fastvae.records import KeyedBatch
from fastvae.train import OptimConfig, StepResult, Task, TrainConfig, capture, task
from fastvae.train.capture import CapturedStep, CUDAGraphs, Mark, Recorder
from fastvae.train.config import GENERATOR, run_clock
from fastvae.train.player import Player, PlayerSpec, all_specs, build_players, build_strategies, set_up
from fastvae.train.run_dir.metrics import Window
from fastvae.train.state import TrainState
from fastvae.train.stepping import EagerStep
from fastvae.train.task import ELBOTask
from fastvae.train.totals import Totals
from fastvae.train.watch.guard import Guard, GuardConfig

T = TypeVar("T")
CPU = torch.device("cpu")
STEPS = 8
HOST_ONLY = ("aten.select", "aten.detach")  # views of host memory


class Playback:
    """Record a function and replay it; like a graph, a replay returns the same tensors with new values.

    It counts what a driver would be asked for.
    """

    def __init__(self) -> None:
        self.recorded = 0
        self.calls: Counter[str] = Counter()

    def warm_up(self, run: Callable[[], T]) -> T:
        return run()

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        self.recorded += 1

        def replay() -> T:
            self.calls["replay"] += 1
            return run()

        return replay

    def host_memory(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def send(self, numbers: Tensor, to: Tensor) -> None:
        self.calls["send"] += 1
        to.copy_(numbers)

    def mark(self) -> Mark:
        return CountedMark(self.calls)


class Unplugged(Playback):
    """Count replays without doing the work."""

    def warm_up(self, run: Callable[[], T]) -> T:
        return cast(T, None)

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        return super().record(lambda: cast(T, None))

    def send(self, numbers: Tensor, to: Tensor) -> None:
        self.calls["send"] += 1


class CountedMark:
    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls

    def record(self) -> None:
        self._calls["mark"] += 1

    def synchronize(self) -> None:
        self._calls["wait"] += 1


class Kernels(TorchDispatchMode):
    """Count the operators that run while the mode is active: on a GPU each would be a kernel launch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*arguments, **(options or {}))


class WithCritic(ELBOTask):
    """The VAE's step and a step of a linear model that learns the sum of the pixels."""

    def __init__(self, model: nn.Module, critic: nn.Module) -> None:
        super().__init__(model)
        self.columns = ("loss_nats", "elbo_nats", "rate_nats", "distortion_nats", "squared_error")
        self.opponents = (PlayerSpec(name="critic", model=critic, optim=OptimConfig(lr=2.0**-6), ema=0.5),)

    def numbers(self, config: TrainConfig, step: int) -> dict[str, float]:
        return {**super().numbers(config, step), "factor": 1 / (1 + step)}

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        player, errors = players["critic"], torch.zeros(())
        for index, micro in enumerate(micro_batches):
            with player.strategy.accumulate(index == len(micro_batches) - 1):
                x = micro.batch.x.flatten(1)
                losses = (player.strategy.module(x).squeeze(1) - x.sum(1)).square() * numbers["factor"]
                player.backward(losses)
            errors += losses.detach().sum()
        others, report = super().step(players, micro_batches, numbers), player.step(errors)
        sums = torch.cat([others.sums[:4], errors.view(1)])
        return StepResult(reports={**others.reports, "critic": report}, sums=sums)


def settings(**changes: object) -> TrainConfig:
    objective = ObjectiveConfig(kl_schedule="linear", kl_warmup=5)
    options = {"lr": 2.0**-8, "warmup": 4, "schedule": "constant", "global_batch_size": 30, "ema": 0.75}
    return TrainConfig(steps=100, objective=objective, **{**options, **changes})  # type: ignore[arg-type]


class Trained:
    """A small model and the state of its training."""

    def __init__(
        self, config: TrainConfig, lag: int | None = None, device: torch.device = CPU, with_critic: bool = False
    ) -> None:
        generator = torch.Generator().manual_seed(3)
        pixels = torch.randint(256, (100, 6), generator=generator, dtype=torch.uint8)
        data = as_data(pixels, binarize="dynamic")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder, decoder = fastvae.nn.MLPEncoder(6, 12, 3), fastvae.nn.MLPDecoder(3, 12, 6)
            critic = nn.Linear(6, 1)
        self.config = config
        model = fastvae.VAE(encoder, decoder, fastvae.Bernoulli())
        self.task: Task = WithCritic(model, critic) if with_critic else ELBOTask(model)
        specs = all_specs(model, config, self.task.opponents, run_clock(config, 1000))
        strategies = build_strategies(specs, World(device=device), config)
        averages = set_up(specs, strategies, config, ())
        self.strategy = strategies[GENERATOR]
        self.loader = Loader(
            data.train, data.preprocess, global_batch_size=30, seed=7, accumulation=config.accumulation, device=device
        )
        emas = {name: ema.average for name, ema in averages.items() if ema is not None}
        self.state = TrainState.start(device, emas, {})
        self.players = build_players(specs, strategies, averages, self.state, config)
        if lag is not None:
            state = self.state.players[GENERATOR].guard
            guard = Guard(GuardConfig(), state, device, 30, self.strategy.all_reduce_sum, lag=lag)
            self.players[GENERATOR] = replace(self.players[GENERATOR], guard=guard)
        self.guard, self.ema = self.players[GENERATOR].guard, self.players[GENERATOR].ema
        self.totals = Totals(self.players, self.state, Window(device, len(self.task.columns)))

    def captured(self, first_step: int = 0, recorder: Recorder | None = None) -> CapturedStep:
        parts = (self.task, self.players, self.loader, self.config, first_step, self.totals)
        return CapturedStep(*parts, recorder or Playback())

    def eager(self, first_step: int = 0) -> EagerStep:
        return EagerStep(self.task, self.players, self.loader, self.config, first_step, self.totals)

    def weights(self) -> Tensor:
        models = [player.strategy.model for player in self.players.values()]
        return torch.cat([p.detach().flatten() for model in models for p in model.parameters()])


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("first_step", [0, 5])
@pytest.mark.parametrize("with_critic", [False, True])
def test_captured_steps_are_the_same_steps(accumulation: int, first_step: int, with_critic: bool) -> None:
    plain = Trained(settings(accumulation=accumulation, max_grad_norm=1.0), with_critic=with_critic)
    other = Trained(settings(accumulation=accumulation, max_grad_norm=1.0, capture=True), with_critic=with_critic)
    playback = Playback()
    take_plain, take_captured = plain.eager(first_step), other.captured(first_step, playback)
    for number in range(first_step, first_step + STEPS):
        take_plain(number)
        take_captured(number)
        for player in (*plain.players.values(), *other.players.values()):
            assert list(player.guard.settle(number + 1)) == []
        assert torch.equal(plain.totals.window.sums, other.totals.window.sums)
        assert plain.totals.window.grad_norms == other.totals.window.grad_norms
    assert playback.recorded == 1
    assert torch.equal(plain.weights(), other.weights())
    assert plain.guard.limits == other.guard.limits
    for name, player in plain.state.players.items():
        assert all(torch.equal(average, other.state.players[name].ema[key]) for key, average in player.ema.items())
    assert plain.state.counters() == other.state.counters()


def test_a_captured_step_makes_three_driver_calls() -> None:
    """Everything else is inside the graph: only views of host memory are made outside it."""
    recorder = Unplugged()
    trained = Trained(settings(capture=True), lag=4)
    take_step = trained.captured(recorder=recorder)
    for number in range(5):
        take_step(number)
    trained.loader.indices(5)  # the host computes the order of the next block of steps
    recorder.calls.clear()
    with Kernels() as outside:
        for number in range(5, 10):
            take_step(number)
            list(trained.guard.settle(number + 1))
    # The host looks at steps 1 to 6, which were asked for four steps before.
    assert recorder.calls == {"send": 5, "replay": 5, "mark": 5, "wait": 6}
    assert not [name for name in outside.seen if not name.startswith(HOST_ONLY)]


def test_an_unread_verdict_is_not_overwritten() -> None:
    """If the lag exceeds the number of slots, the host waits before it overwrites one."""
    trained = Trained(settings(capture=True), lag=2 * capture._SLOTS)
    take_step = trained.captured()
    losses = []
    for number in range(2 * capture._SLOTS):
        trained.totals.window.restart(number)
        take_step(number)
        losses.append(trained.totals.window.sums[0].item() / 30)
    assert [judged.values()[0] for judged in trained.state.players[GENERATOR].guard.unseen] == pytest.approx(losses)


def test_a_captured_step_with_a_nan_is_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = Trained(settings(capture=True))
    take_step = trained.captured()
    take_step(0)
    list(trained.guard.settle(1))
    before = trained.weights()
    monkeypatch.setattr(task, "kl_weight_at", lambda config, step: float("nan"))
    take_step(1)
    assert trained.state.players[GENERATOR].skipped_steps.item() == 1
    assert torch.equal(trained.weights(), before)
    skipped = list(trained.guard.settle(2))
    assert [(skip.step, skip.finite) for skip in skipped] == [(2, False)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_capture_without_a_gpu_is_refused(tmp_path: object) -> None:
    model = fastvae.VAE(fastvae.nn.MLPEncoder(6, 4, 2), fastvae.nn.MLPDecoder(2, 4, 6), fastvae.Bernoulli())
    with pytest.raises(ValueError, match=r"train\.capture requires one process on a GPU"):
        fastvae.train(
            model, torch.rand(40, 6), TrainConfig(steps=1, global_batch_size=4, capture=True), run_dir=tmp_path
        )  # type: ignore[arg-type]


def test_capture_requires_data_in_memory() -> None:
    source = fastvae.data.as_source(tuple(torch.rand(3) for _ in range(5)))
    with pytest.raises(ValueError, match=r"set train\.capture to False"):
        source.to("cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("accumulation", [1, 4])
def test_graphs_replay_the_same_steps(accumulation: int) -> None:
    device = torch.device("cuda", 0)
    plain = Trained(settings(accumulation=accumulation, max_grad_norm=1.0), device=device)
    other = Trained(settings(accumulation=accumulation, max_grad_norm=1.0, capture=True), device=device)
    take_plain, take_captured = plain.eager(), other.captured(recorder=CUDAGraphs())
    for number in range(20):
        take_plain(number)
        take_captured(number)
        for player in (*plain.players.values(), *other.players.values()):
            assert list(player.guard.settle(number + 1)) == []
    torch.testing.assert_close(plain.totals.window.sums, other.totals.window.sums, rtol=1e-6, atol=0)
    torch.testing.assert_close(plain.weights(), other.weights(), rtol=1e-6, atol=1e-7)
    for name, average in plain.ema.average.items():
        torch.testing.assert_close(average, other.ema.average[name], rtol=1e-6, atol=1e-7)


@pytest.mark.gpu
@pytest.mark.parametrize("capture", [False, True])
def test_a_step_on_a_gpu_does_not_synchronise(capture: bool) -> None:
    """PyTorch's sync debug mode makes every synchronising call an error."""
    trained = Trained(settings(capture=capture, max_grad_norm=1.0), device=torch.device("cuda", 0))
    take_step = trained.captured(recorder=CUDAGraphs()) if capture else trained.eager()
    for number in range(5):
        take_step(number)
    list(trained.guard.settle(5))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(5, 20):
            take_step(number)
            list(trained.guard.settle(number + 1))
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""The whole training step as one CUDA graph: one launch in place of a hundred, for models whose steps are launches.

Everything that changes from step to step lies at a fixed place on the device: the examples' indices, the noise key,
which advances by itself with each replay, the learning rate, the KL weight, the guard's limits. The examples themselves
lie there too. The host writes these few numbers and replays; it never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from fastvae.data import Loader
from fastvae.distributed import StepReport, Strategy
from fastvae.ops import noise_key
from fastvae.train.config import TrainConfig
from fastvae.train.guard import Guard
from fastvae.train.step import train_step

T = TypeVar("T")
Step = Callable[[int, float], tuple[StepReport, Tensor]]

_WARM_UP = 3  # steps that run as usual first: libraries and the optimizer set themselves up in them


class Recorder(Protocol):
    """How work on the device is recorded once and replayed."""

    def warm_up(self, run: Callable[[], T]) -> T:
        """Run it as usual, where recording may follow."""

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        """Record it without running it; the result replays it, and gives the same tensors with new values."""


class CUDAGraphs:
    """Recording with CUDA graphs, after PyTorch's notes: warm up on a side stream, then capture."""

    def warm_up(self, run: Callable[[], T]) -> T:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = run()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def record(self, run: Callable[[], T]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()

        def replay() -> T:
            graph.replay()
            return result

        return replay


def build_step(strategy: Strategy, loader: Loader, config: TrainConfig, guard: Guard, first_step: int) -> Step:
    """A function of step and KL weight that takes one training step: `train_step`, captured where the run asks for it.

    Raises:
        ValueError: the run asks for it where there is no GPU, or more than one process.
    """
    if not config.capture:
        return lambda step, kl_weight: train_step(strategy, loader.load(step), config, kl_weight, guard)
    world = strategy.world
    if world.device.type != "cuda" or world.world_size > 1:
        raise ValueError(
            f"train.capture must be False but for one process on a GPU, got {world.world_size} on {world.device.type}; "
            "set it to False"
        )
    return CapturedStep(strategy, loader, config, guard, first_step, CUDAGraphs())


class CapturedStep:
    """`train_step` recorded: call it with the steps in order, from ``first_step`` on.

    Args:
        strategy: single; its optimizer's learning rates become tensors on the device.
        loader: its examples are moved to its device.
        config: the settings of the run.
        guard: judges each step.
        first_step: the step that the first call takes.
        recorder: CUDA graphs, or what a test puts in their place.
    """

    def __init__(
        self,
        strategy: Strategy,
        loader: Loader,
        config: TrainConfig,
        guard: Guard,
        first_step: int,
        recorder: Recorder,
    ) -> None:
        device = strategy.world.device
        self._strategy, self._loader, self._config, self._guard = strategy, loader.resident(), config, guard
        self._recorder, self._device, self._first_step = recorder, device, first_step
        self._indices = loader.indices(first_step).to(device)
        self._keys = [noise_key(loader.seed, first_step, row, device=device) for row in loader.first_rows]
        self._kl_weight = torch.zeros((), device=device)
        self._limits = torch.zeros(2, device=device)
        self._numbers = torch.zeros(3, device=device)
        self._replay: Callable[[], tuple[StepReport, Tensor]] | None = None
        for group in strategy.optimizer.param_groups:
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)

    def __call__(self, step: int, kl_weight: float) -> tuple[StepReport, Tensor]:
        """Take one step; the results are the same tensors each time, so take from them before the next call."""
        indices = self._loader.indices(step)
        self._indices.copy_(indices.pin_memory() if self._device.type == "cuda" else indices, non_blocking=True)
        self._kl_weight.fill_(kl_weight)
        self._limits.copy_(self._guard.limits_on(self._device))
        if step < self._first_step + _WARM_UP:
            results = self._recorder.warm_up(self._run)
        else:
            if self._replay is None:
                self._replay = self._recorder.record(self._run)
            results = self._replay()
        self._guard.note(self._numbers)
        return results

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """The guard's verdict, worked out from what lies on the device."""
        self._numbers.copy_(self._guard.judge(loss, grad_norm, self._limits))
        return self._numbers[2] > 0

    def _run(self) -> tuple[StepReport, Tensor]:
        batches = self._loader.make(self._indices, self._keys)
        results = train_step(self._strategy, batches, self._config, self._kl_weight, self)
        for key in self._keys:
            key[1] += 1
        return results

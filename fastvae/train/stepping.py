"""How the loop takes its steps: one after the other as they come, or recorded once and replayed."""

from __future__ import annotations

from typing import Protocol

from fastvae.data import Loader, Prefetcher
from fastvae.distributed import Strategy
from fastvae.objective import kl_weight_at
from fastvae.train.capture import CapturedStep, CUDAGraphs
from fastvae.train.config import TrainConfig
from fastvae.train.optim import lr_at, set_lr
from fastvae.train.step import train_step
from fastvae.train.totals import Totals
from fastvae.train.watch.guard import Guard


class Step(Protocol):
    """Takes the steps of a run in order."""

    def __call__(self, step: int) -> None:
        """Take step ``step``, counted from 0, and add it to the totals."""

    def close(self) -> None:
        """There are no more steps."""


class EagerStep:
    """Each step as it comes, with a batch that was loaded ahead where that helps.

    Args:
        strategy: trains the model.
        loader: makes the batches.
        config: the settings of the run.
        guard: judges each step.
        first_step: the step that the first call takes.
        totals: what each step adds to.
    """

    def __init__(
        self,
        strategy: Strategy,
        loader: Loader,
        config: TrainConfig,
        guard: Guard,
        first_step: int,
        totals: Totals,
    ) -> None:
        self._strategy, self._config, self._guard, self._totals = strategy, config, guard, totals
        self._batches = Prefetcher(loader, first_step, config.steps)

    def __call__(self, step: int) -> None:
        """Take one step."""
        config = self._config
        set_lr(self._strategy.optimizer, lr_at(config, step))
        self._guard.begin(step + 1)
        batches, kl_weight = next(self._batches), kl_weight_at(config.objective, step)
        report, sums = train_step(self._strategy, batches, config, kl_weight, self._guard)
        self._totals.add(report, sums, self._totals.ema_weight_at(step))

    def close(self) -> None:
        """Let go of the batches that were loaded ahead."""
        self._batches.close()


def build_step(
    strategy: Strategy, loader: Loader, config: TrainConfig, guard: Guard, first_step: int, totals: Totals
) -> Step:
    """What takes the steps from ``first_step`` on, captured where the run asks for it.

    Raises:
        ValueError: the run asks for it where there is no GPU, or more than one process.
    """
    if not config.capture:
        return EagerStep(strategy, loader, config, guard, first_step, totals)
    world = strategy.world
    if world.device.type != "cuda" or world.world_size > 1:
        raise ValueError(
            f"train.capture must be False but for one process on a GPU, got {world.world_size} on {world.device.type}; "
            "set it to False"
        )
    return CapturedStep(strategy, loader, config, guard, first_step, totals, CUDAGraphs())

"""How the loop runs its steps: eagerly, or captured once and replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fastvae.data import Loader, Prefetcher
from fastvae.train.capture import CapturedStep, CUDAGraphs
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.optim import set_lr
from fastvae.train.player import Player
from fastvae.train.task import Task
from fastvae.train.totals import Totals


class Step(Protocol):
    """Runs the steps of a run in order."""

    @property
    def waited_s(self) -> float:
        """Seconds that all steps have waited for their examples."""

    @property
    def replaced(self) -> Sequence[str]:
        """Why an example of this rank could not be read, for each that was replaced."""

    def __call__(self, step: int) -> None:
        """Run step ``step``, counted from 0, and add it to the totals."""

    def close(self) -> None:
        """Release resources after the last step."""


class EagerStep:
    """Eager steps, with prefetched batches if that helps.

    Args:
        task: defines the step.
        players: the models that it trains.
        loader: provides the batches.
        config: the settings of the run.
        first_step: the step of the first call.
        totals: sums that each step updates.
    """

    def __init__(
        self,
        task: Task,
        players: Mapping[str, Player],
        loader: Loader,
        config: TrainConfig,
        first_step: int,
        totals: Totals,
    ) -> None:
        self._task, self._players, self._config, self._totals = task, players, config, totals
        self._batches = Prefetcher(loader, first_step, config.num_steps, timeout_s=config.timeout)

    @property
    def waited_s(self) -> float:
        """Seconds that all steps have waited for their examples."""
        return self._batches.waited_s

    @property
    def replaced(self) -> Sequence[str]:
        """Why an example of this rank could not be read, for each that was replaced."""
        return self._batches.replaced

    def __call__(self, step: int) -> None:
        """Run one step."""
        for player in self._players.values():
            lr = player.lr_at(step) * self._totals.state.lr_factor
            set_lr(player.strategy.optimizer, lr)
            player.guard.begin(step + 1)
        result = self._task.step(self._players, next(self._batches), self._task.numbers(self._config, step))
        self._totals.add(result, self._totals.ema_weights_at(step))

    def close(self) -> None:
        """Release the prefetched batches."""
        self._batches.close()


def build_step(
    task: Task, players: Mapping[str, Player], loader: Loader, config: TrainConfig, first_step: int, totals: Totals
) -> Step:
    """Return the steps from ``first_step`` on, captured if ``train.capture`` is set.

    Raises:
        ValueError: capture is requested without a GPU or with several processes.
    """
    if not config.capture:
        return EagerStep(task, players, loader, config, first_step, totals)
    world = players[GENERATOR].strategy.world
    if world.device.type != "cuda" or world.world_size > 1:
        raise ValueError(
            f"train.capture requires one process on a GPU, got {world.world_size} on {world.device.type}; "
            "set it to False"
        )
    return CapturedStep(task, players, loader, config, first_step, totals, CUDAGraphs())

"""How the loop takes its steps: one after the other as they come, or recorded once and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fastvae.data import Loader, Prefetcher
from fastvae.train.capture import CapturedStep, CUDAGraphs
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.optim import lr_at, set_lr
from fastvae.train.player import Player
from fastvae.train.task import Task
from fastvae.train.totals import Totals


class Step(Protocol):
    """Takes the steps of a run in order."""

    def __call__(self, step: int) -> None:
        """Take step ``step``, counted from 0, and add it to the totals."""

    def close(self) -> None:
        """There are no more steps."""


class EagerStep:
    """Each step as it comes, with a batch that was loaded ahead where that helps.

    Args:
        task: says how a step is taken.
        players: the models that it trains.
        loader: makes the batches.
        config: the settings of the run.
        first_step: the step that the first call takes.
        totals: what each step adds to.
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
        self._batches = Prefetcher(loader, first_step, config.steps)

    def __call__(self, step: int) -> None:
        """Take one step."""
        for player in self._players.values():
            set_lr(player.strategy.optimizer, lr_at(player.optim, step, self._config.steps))
            player.guard.begin(step + 1)
        result = self._task.step(self._players, next(self._batches), self._task.numbers(self._config, step))
        self._totals.add(result, self._totals.ema_weights_at(step))

    def close(self) -> None:
        """Let go of the batches that were loaded ahead."""
        self._batches.close()


def build_step(
    task: Task, players: Mapping[str, Player], loader: Loader, config: TrainConfig, first_step: int, totals: Totals
) -> Step:
    """What takes the steps from ``first_step`` on, captured where the run asks for it.

    Raises:
        ValueError: the run asks for it where there is no GPU, or more than one process.
    """
    if not config.capture:
        return EagerStep(task, players, loader, config, first_step, totals)
    world = players[GENERATOR].strategy.world
    if world.device.type != "cuda" or world.world_size > 1:
        raise ValueError(
            f"train.capture must be False but for one process on a GPU, got {world.world_size} on {world.device.type}; "
            "set it to False"
        )
    return CapturedStep(task, players, loader, config, first_step, totals, CUDAGraphs())

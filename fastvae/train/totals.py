"""Sums and averages on the device that every step updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fastvae.train.player import Player
from fastvae.train.run_dir.metrics import Window
from fastvae.train.state import TrainState
from fastvae.train.task import StepResult


@dataclass(frozen=True)
class Totals:
    """The sums of the log's window, and each player's count of skipped steps and moving average."""

    players: Mapping[str, Player]
    state: TrainState
    window: Window

    def add(self, result: StepResult, ema_weights: Mapping[str, float | Tensor]) -> None:
        """Add a step, on the device only, so that a CUDA graph can capture it.

        Args:
            result: result of the step.
            ema_weights: weight of this step in each player's moving average, see `EMA.weight_at`.
        """
        for name, report in result.reports.items():
            player = self.players[name]
            if player.ema is not None:
                player.ema.update(player.strategy.full_precision_parameters(), ema_weights[name])
            self.state.players[name].skipped_steps += report.skipped
        self.window.add(result.reports, result.sums)

    def ema_weights_at(self, step: int) -> dict[str, float]:
        """Return the weight of a step in each player's moving average; 0 without EMA."""
        return {name: 0.0 if p.ema is None else p.ema.weight_at(step) for name, p in self.players.items()}

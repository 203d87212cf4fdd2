"""What a run is at a step, besides its models and optimizers: everything else is a function of the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastvae.distributed import Strategy
from fastvae.train.watch.guard import GuardState


@dataclass
class PlayerState:
    """The counters of one model that is trained, and the moving average of its weights."""

    skipped_steps: Tensor
    """[] int64 on the device: the steps that changed no parameter, since they were not finite, or spikes."""
    ema: dict[str, Tensor]
    """The averages by name; empty where the run keeps none."""
    guard: GuardState = field(default_factory=GuardState)
    """Which steps would be spikes."""

    @classmethod
    def start(cls, device: torch.device, ema: dict[str, Tensor], saved: Mapping[str, Any] | None = None) -> PlayerState:
        """The state before the first step, or the one whose ``counters`` were saved."""
        if saved is None:
            return cls(torch.tensor(0, device=device), ema)
        return cls(torch.tensor(saved["skipped_steps"], device=device), ema, GuardState.from_json(saved["guard"]))

    def counters(self) -> dict[str, Any]:
        """As JSON has it, without the averages."""
        return {"skipped_steps": int(self.skipped_steps.item()), "guard": self.guard.to_json()}


@dataclass
class TrainState:
    """The counters of a run, and of each model in it."""

    step: int
    """Optimizer steps done; the data position is ``step * global_batch_size``."""
    players: dict[str, PlayerState]
    """By name; see `fastvae.train.player`."""
    collapsed_evaluations: int = 0
    """The last evaluations in a row that had too few active units."""

    @classmethod
    def start(
        cls, device: torch.device, averages: Mapping[str, dict[str, Tensor]], saved: Mapping[str, Any] | None = None
    ) -> TrainState:
        """The state before the first step, or the one whose ``counters`` were saved.

        Args:
            device: where the models are.
            averages: of each player's weights, by name; the keys are the players.
            saved: what ``counters`` gave.
        """
        players = {
            name: PlayerState.start(device, ema, None if saved is None else saved["players"][name])
            for name, ema in averages.items()
        }
        if saved is None:
            return cls(0, players)
        return cls(saved["step"], players, saved["collapsed_evaluations"])

    def counters(self) -> dict[str, Any]:
        """Everything but tensors that decides how the run goes on, as JSON has it; ``start`` takes it back."""
        return {
            "step": self.step,
            "players": {name: player.counters() for name, player in self.players.items()},
            "collapsed_evaluations": self.collapsed_evaluations,
        }


class EMA:
    """Exponential moving average of the float32 weights: ``average += (1 - d) * (weight - average)`` at every step.

    ``d`` is ``min(decay, (1 + step) / (10 + step))``, so that a young average is not held back by the initial weights.
    """

    def __init__(self, decay: float, parameters: dict[str, Tensor]) -> None:
        self._decay = decay
        self.average = {name: parameter.clone() for name, parameter in parameters.items()}

    def weight_at(self, step: int) -> float:
        """``1 - d`` at optimizer step ``step`` (0-based)."""
        return 1 - min(self._decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor], weight: float | Tensor) -> None:
        """Move towards ``parameters`` by ``weight``, see ``weight_at``; a tensor [] is read where it lies."""
        if isinstance(weight, Tensor):
            for name, average in self.average.items():
                average.lerp_(parameters[name], weight)
        else:
            torch._foreach_lerp_(list(self.average.values()), [parameters[name] for name in self.average], weight)


@contextmanager
def averaged_weights(strategy: Strategy, ema: dict[str, Tensor]) -> Iterator[None]:
    """While the block runs the model holds its averaged weights, where the run keeps any; then its own again."""
    parameters = strategy.full_precision_parameters()
    own = {name: parameters[name].clone() for name in ema}
    try:
        copy_into(parameters, ema)
        yield
    finally:
        copy_into(parameters, own)


@torch.no_grad()
def copy_into(parameters: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Set the named parameters to the values, in place."""
    for name, value in values.items():
        parameters[name].copy_(value)

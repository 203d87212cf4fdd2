"""The state of a run besides its models and optimizers; everything else is a function of the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastvae.distributed import Strategy
from fastvae.train.watch.guard import GuardState

_PLAIN = ("best_step", "collapsed_evaluations", "lr_factor", "stopped", "callbacks")  # fields that are JSON values


@dataclass
class PlayerState:
    """The counters of one model that is trained, and the moving average of its weights."""

    skipped_steps: Tensor
    """[] int64 on the device: number of skipped steps, which were not finite or spikes."""
    ema: dict[str, Tensor]
    """Averaged weights by name; empty without EMA."""
    guard: GuardState = field(default_factory=GuardState)
    """State of the guard."""

    @classmethod
    def start(cls, device: torch.device, ema: dict[str, Tensor], saved: Mapping[str, Any] | None = None) -> PlayerState:
        """Return the state before the first step, or the one whose ``counters`` were saved."""
        if saved is None:
            return cls(torch.tensor(0, device=device), ema)
        return cls(torch.tensor(saved["skipped_steps"], device=device), ema, GuardState.from_json(saved["guard"]))

    def counters(self) -> dict[str, Any]:
        """Return the state as JSON values, without the averages."""
        return {"skipped_steps": int(self.skipped_steps.item()), "guard": self.guard.to_json()}


@dataclass
class TrainState:
    """The counters of a run, and of each model in it."""

    step: int
    """Number of completed optimizer steps; the data position is ``step * global_batch_size``."""
    players: dict[str, PlayerState]
    """States of the players by name; see `fastvae.train.player`."""
    best: dict[str, Tensor]
    """Weights of the generator at the best evaluation by name; empty unless the run keeps them."""
    best_step: int | None = None
    """Step of the best evaluation."""
    collapsed_evaluations: int = 0
    """Number of consecutive evaluations with too few active units."""
    lr_factor: float = 1.0
    """Factor of all learning rates."""
    stopped: str | None = None
    """The reason why the run ended before its last step; None if it did not."""
    callbacks: dict[str, Any] = field(default_factory=dict)
    """State of each callback by its name, at the last save."""

    @classmethod
    def start(
        cls,
        device: torch.device,
        averages: Mapping[str, dict[str, Tensor]],
        best: dict[str, Tensor],
        saved: Mapping[str, Any] | None = None,
    ) -> TrainState:
        """Return the state before the first step, or the one whose ``counters`` were saved.

        Args:
            device: device of the models.
            averages: averaged weights by player; the keys are the players.
            best: best weights.
            saved: result of ``counters``.
        """
        players = {
            name: PlayerState.start(device, ema, None if saved is None else saved["players"][name])
            for name, ema in averages.items()
        }
        if saved is None:
            return cls(0, players, best)
        return cls(saved["step"], players, best, **{name: saved[name] for name in _PLAIN})

    def counters(self) -> dict[str, Any]:
        """Return the state without tensors as JSON values; ``start`` restores it."""
        return {
            "step": self.step,
            "players": {name: player.counters() for name, player in self.players.items()},
            **{name: getattr(self, name) for name in _PLAIN},
        }


class EMA:
    """Exponential moving average of the float32 weights: ``average += (1 - d) * (weight - average)`` at every step.

    ``d`` is ``min(decay, (1 + step) / (10 + step))``, so that an early average does not depend much on the initial
    weights.
    """

    def __init__(self, decay: float, parameters: dict[str, Tensor]) -> None:
        self._decay = decay
        self.average = {name: parameter.clone() for name, parameter in parameters.items()}

    def weight_at(self, step: int) -> float:
        """Return ``1 - d`` at optimizer step ``step`` (0-based)."""
        return 1 - min(self._decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor], weight: float | Tensor) -> None:
        """Move towards ``parameters`` by ``weight``, see ``weight_at``; a tensor [] is read on its device."""
        if isinstance(weight, Tensor):
            for name, average in self.average.items():
                average.lerp_(parameters[name], weight)
        else:
            torch._foreach_lerp_(list(self.average.values()), [parameters[name] for name in self.average], weight)


@contextmanager
def averaged_weights(strategy: Strategy, ema: dict[str, Tensor]) -> Iterator[None]:
    """Replace the weights of the model by these (averages, or best ones; none if empty) inside the block."""
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

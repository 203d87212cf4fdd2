"""What a run is at a step, besides its model and optimizer: everything else is a function of the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fastvae.distributed import Strategy


@dataclass
class TrainState:
    """The counters of a run and the moving average of its weights."""

    step: int  # optimizer steps done; the data position is step * global_batch_size
    skipped_steps: Tensor  # [] int64 on the device: of those, the ones whose gradient was not finite
    ema: dict[str, Tensor]  # empty where the run keeps no average

    @classmethod
    def start(
        cls, device: torch.device, ema: dict[str, Tensor], *, step: int = 0, skipped_steps: int = 0
    ) -> TrainState:
        """The state at ``step``; at the very start by default."""
        return cls(step=step, skipped_steps=torch.tensor(skipped_steps, device=device), ema=ema)


class EMA:
    """Exponential moving average of the float32 weights: ``average += (1 - d) * (weight - average)`` at every step.

    ``d`` is ``min(decay, (1 + step) / (10 + step))``, so that a young average is not held back by the initial weights.
    """

    def __init__(self, decay: float, parameters: dict[str, Tensor]) -> None:
        self._decay = decay
        self.average = {name: parameter.clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor], step: int) -> None:
        """Take optimizer step ``step``'s (0-based) move towards ``parameters``."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(list(self.average.values()), [parameters[name] for name in self.average], 0)


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

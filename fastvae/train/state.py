"""What a run is at a step, besides its model and optimizer: everything else is a function of the step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fastvae.distributed import Strategy


@dataclass
class TrainState:
    """The counters of a run and the moving average of its weights."""

    step: int  # optimizer steps done; the data position is step * global_batch_size
    skipped_steps: Tensor  # [] int64 on the device: of those, the ones whose gradient was not finite
    skipped_in_a_row: Tensor  # [] int64 on the device: how many of the last steps were skipped, without a gap
    ema: dict[str, Tensor]  # empty where the run keeps no average

    @classmethod
    def start(cls, device: torch.device, ema: dict[str, Tensor], saved: Mapping[str, Any] | None = None) -> TrainState:
        """The state at the very start, or the one whose ``counters`` were saved."""
        saved = saved if saved is not None else {}
        zeros = {name: torch.zeros((), dtype=torch.int64, device=device) for name in _ON_DEVICE}
        tensors = {name: zero + saved.get(name, 0) for name, zero in zeros.items()}
        return cls(step=saved.get("step", 0), ema=ema, **tensors)

    def counters(self) -> dict[str, Any]:
        """Everything but tensors that decides how the run goes on, as JSON has it; ``start`` takes it back."""
        return {"step": self.step, **{name: getattr(self, name).item() for name in _ON_DEVICE}}

    def count(self, skipped: Tensor) -> None:
        """Note that a step was done; ``skipped`` ([] bool) says whether it left the parameters alone."""
        self.step += 1
        self.skipped_steps += skipped
        self.skipped_in_a_row = (self.skipped_in_a_row + 1) * skipped


_ON_DEVICE = ("skipped_steps", "skipped_in_a_row")


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

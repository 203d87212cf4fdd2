"""Settings of an optimizer and its learning rate. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fastvae.durations import Duration
from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Settings):
    """How one model's parameters are updated. `TrainConfig` is a subclass, for the model that is passed to `train`."""

    _where = "optim"  # prefix of the field names in error messages

    optimizer: Literal["adamw", "adam", "adamax", "sgd", "muon"] = "adamw"
    """AdamW (decoupled weight decay), Adam, Adamax, SGD with Nesterov momentum, or Muon for matrices with AdamW for all
    other parameters."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "inverse-sqrt", "wsd"] = "cosine"
    """Learning rate after the warm-up: cosine or linear decay to zero, constant, proportional to 1 / sqrt(step), or
    constant and then a linear decay to zero (wsd: warm-up, stable, decay)."""
    warmup: Duration = 0
    """Duration of the learning rate's linear warm-up."""
    decay: Duration = setting("20%", advanced=True)
    """Duration of the decay of schedule wsd, at the end of the run."""
    weight_decay: float = 0.0
    """Weight decay of the matrices; biases, norms and learned variances have none."""
    beta1: float = setting(0.9, advanced=True)
    """Decay of the running average of gradients, except of SGD and Muon."""
    beta2: float = setting(0.999, advanced=True)
    """Decay of the running average of squared gradients (of their maximum, for Adamax)."""
    momentum: float = setting(0.9, advanced=True)
    """Momentum of SGD and Muon."""
    adam_eps: float = setting(1e-8, advanced=True)
    """Constant that Adam adds to the denominator."""
    max_grad_norm: float | None = None
    """Clip the gradient of the global batch to this 2-norm; None for off."""

    def __post_init__(self) -> None:
        self._require(math.isfinite(self.lr) and self.lr > 0, "lr", "must be a positive number")
        for name in ("weight_decay", "adam_eps"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, name, "must be a number >= 0")
        for name in ("beta1", "beta2", "momentum"):
            self._require(0 <= getattr(self, name) < 1, name, "must be in [0, 1)")
        norm = self.max_grad_norm
        self._require(norm is None or norm > 0, "max_grad_norm", "must be positive, or None for off")

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ValueError(f"{self._where}.{name} {rule}, got {getattr(self, name)!r}")

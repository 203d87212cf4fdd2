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

    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW (decoupled weight decay) or Adam; both use the fused implementation."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine decay to zero, or constant."""
    warmup: Duration = 0
    """Duration of the learning rate's linear warm-up."""
    weight_decay: float = 0.0
    """Weight decay of the matrices; biases, norms and learned variances have none."""
    beta1: float = setting(0.9, advanced=True)
    """Decay of Adam's running average of gradients."""
    beta2: float = setting(0.999, advanced=True)
    """Decay of Adam's running average of squared gradients."""
    adam_eps: float = setting(1e-8, advanced=True)
    """Constant that Adam adds to the denominator."""
    max_grad_norm: float | None = None
    """Clip the gradient of the global batch to this 2-norm; None for off."""

    def __post_init__(self) -> None:
        self._require(math.isfinite(self.lr) and self.lr > 0, "lr", "must be a positive number")
        for name in ("weight_decay", "adam_eps"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, name, "must be a number >= 0")
        for name in ("beta1", "beta2"):
            self._require(0 <= getattr(self, name) < 1, name, "must be in [0, 1)")
        norm = self.max_grad_norm
        self._require(norm is None or norm > 0, "max_grad_norm", "must be positive, or None for off")

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ValueError(f"{self._where}.{name} {rule}, got {getattr(self, name)!r}")

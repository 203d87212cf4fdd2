"""Settings of what watches a run: guard, collapse, early stopping, plateau. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class GuardConfig(Settings):
    """Which steps are skipped (by all ranks together), and when the run stops."""

    stop_after: int = setting(10, changes_result=False)
    """Stop after this many consecutive steps whose loss or gradient is not finite; each of them is skipped."""
    spike_sigma: float | None = 8.0
    """Skip a step whose loss or gradient norm is this many standard deviations above its running mean; None for off."""
    spike_window: int = 200
    """Window of the running mean and standard deviation, in steps; no step is skipped before it is full."""
    spikes_in_a_row: int = 3
    """After this many consecutive skipped spikes, the new level is accepted and the window restarts."""

    def __post_init__(self) -> None:
        for name in ("stop_after", "spikes_in_a_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.guard.{name} must be at least 1, got {getattr(self, name)}")
        if self.spike_window < 10:
            raise ValueError(f"train.guard.spike_window must be at least 10, got {self.spike_window}")
        if self.spike_sigma is not None and not (math.isfinite(self.spike_sigma) and self.spike_sigma >= 3):
            raise ValueError(
                f"train.guard.spike_sigma must be a number >= 3, or None for off, got {self.spike_sigma}; "
                "3 already skips clean steps"
            )


@dataclass(frozen=True, kw_only=True)
class CollapseConfig(Settings):
    """When a run warns that its decoder ignores the latent (posterior collapse)."""

    min_active: float | None = setting(0.1, changes_result=False)
    """Warn if less than this fraction of the latent units is active; None for off."""
    evaluations: int = setting(3, changes_result=False)
    """Number of consecutive evaluations below min_active before the warning."""

    def __post_init__(self) -> None:
        if self.min_active is not None and not 0 < self.min_active <= 1:
            raise ValueError(f"train.collapse.min_active must be in (0, 1], or None for off, got {self.min_active}")
        if self.evaluations < 1:
            raise ValueError(f"train.collapse.evaluations must be at least 1, got {self.evaluations}")


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig(Settings):
    """When a run ends because its loss on the validation set does not fall any more."""

    patience: int | None = setting(None, changes_result=False)
    """End the run after this many consecutive evaluations without a lower validation loss; None for off. Evaluations
    during a KL warm-up do not count."""
    min_delta: float = setting(0.0, changes_result=False, advanced=True)
    """Nats by which the loss must be lower, or amount by which another validation_metric must be higher, to count."""

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"train.early_stopping.patience must be at least 1, or None for off, got {self.patience}")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"train.early_stopping.min_delta must be a number >= 0, got {self.min_delta}")


@dataclass(frozen=True, kw_only=True)
class PlateauConfig(Settings):
    """When the learning rates are lowered because the loss on the validation set does not fall any more."""

    patience: int | None = None
    """Lower the rates after this many consecutive evaluations without a lower validation loss; None for off."""
    factor: float = 0.5
    """Factor of the rates, in (0, 1)."""
    min_factor: float = 0.01
    """The product of all factors does not fall below this."""

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"train.plateau.patience must be at least 1, or None for off, got {self.patience}")
        if not 0 < self.factor < 1 or not 0 <= self.min_factor < 1:
            raise ValueError(
                "train.plateau.factor must be in (0, 1) and min_factor in [0, 1), got "
                f"{self.factor} and {self.min_factor}"
            )

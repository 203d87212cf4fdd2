"""Settings of the objective. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fastvae.durations import Duration, DurationOrNone, is_shorter
from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Settings):
    """Settings of the objective that is minimised."""

    num_samples: int = 1
    """Number of samples of z per example; more than 1 trains the importance-weighted bound (IWAE)."""
    kl_weight: float = 1.0
    """Final weight of the rate (the KL term); 1 is the ELBO."""
    kl_schedule: Literal["constant", "linear", "cyclical"] = "constant"
    """Schedule of the weight: constant, a linear warm-up, or a linear warm-up at the start of every cycle."""
    kl_warmup: Duration = 0
    """Duration of the linear warm-up, of the run or of each cycle."""
    kl_cycle: DurationOrNone = setting(None, advanced=True)
    """Duration of one cycle of the cyclical schedule, including its warm-up."""
    kl_weight_start: float = setting(0.0, advanced=True)
    """Weight at the start of a warm-up and during autoencoder pre-training; above 0 it limits the information in z."""
    autoencoder_phase: Duration = setting(0, advanced=True)
    """Duration of autoencoder pre-training at weight kl_weight_start; then the decoder is re-initialised and the
    schedule begins."""
    free_bits: float | None = None
    """Free bits: KL in nats per latent dimension that the loss does not penalise; None for off."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"ObjectiveConfig: num_samples must be at least 1, got {self.num_samples}")
        weights = (self.kl_weight, self.kl_weight_start)
        if not all(map(math.isfinite, weights)) or min(weights) < 0:
            raise ValueError(
                "ObjectiveConfig: kl_weight and kl_weight_start must be numbers >= 0, got"
                f" {self.kl_weight} and {self.kl_weight_start}"
            )
        if self.kl_schedule != "constant" and self.kl_warmup == 0:
            raise ValueError(f"ObjectiveConfig: kl_schedule={self.kl_schedule!r} requires a kl_warmup, got 0")
        if self.kl_schedule == "cyclical" and is_shorter(self.kl_cycle or 0, self.kl_warmup):
            raise ValueError(
                f"ObjectiveConfig: kl_cycle must be at least its warm-up of {self.kl_warmup}, got {self.kl_cycle}"
            )
        if self.free_bits is not None and (not 0 <= self.free_bits < math.inf or self.num_samples > 1):
            raise ValueError(
                "ObjectiveConfig: free_bits must be a number >= 0 and requires num_samples=1, where the KL is exact,"
                f" got free_bits={self.free_bits}, num_samples={self.num_samples}"
            )

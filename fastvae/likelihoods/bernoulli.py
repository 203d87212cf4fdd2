"""Binary pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae import ops
from fastvae.likelihoods.base import Likelihood, aligned, at_least_float32, event_stream, rows_columns, with_ends
from fastvae.likelihoods.support import Support


@dataclass(frozen=True)
class BoundBernoulli:
    """Independent pixels, each 1 with probability ``sigmoid(logits)``."""

    logits: Tensor  # [B, ...] or [K, B, ...]

    @property
    def mean(self) -> Tensor:
        """Probability of 1, the shape of the logits."""
        return torch.sigmoid(self.logits)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x log p + (1 - x) log(1 - p)`` summed over the event, from logits, so that no probability rounds to 0 or 1.

        Args:
            target: [B, ...] bool, 0/1, or a float in [0, 1], which counts as the expectation over such pixels.
            mask: [B, ...] 1 for pixels that count, 0 for those that do not.

        Returns:
            [B], or [K, B] if the logits have K samples, in nats per example.
        """
        logits, target, mask = aligned("Bernoulli", self.logits, target, mask)
        return -ops.bernoulli_nll(logits, target, mask)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Pixels 0 or 1 as floats, the shape of the logits; row i has the noise of row first_row + i."""
        logits = at_least_float32(self.logits)
        uniform = ops.philox_uniform(noise_key, *rows_columns(logits), stream=event_stream(stream))
        return (uniform.view(logits.shape) < torch.sigmoid(logits)).to(logits.dtype)

    def probability_below(self, level: Tensor, num_levels: int = 2) -> Tensor:
        """P(pixel < level), elementwise and the shape of the logits: 0 at level 0, P(pixel = 0) at 1, and 1 at 2.

        Args:
            level: int64, the shape of the logits, each in 0 .. 2.
            num_levels: must be 2.

        Raises:
            ValueError: more levels than two.
        """
        if num_levels != 2:
            raise ValueError(f"Bernoulli: pixels must have 2 levels, got {num_levels}; train with another likelihood")
        return with_ends(torch.sigmoid(-self.logits), level, num_levels)


class Bernoulli(Likelihood):
    """Binary pixels: the decoder's output is their logits. It has no parameters."""

    support = Support(low=0, high=1)  # numbers between 0 and 1 count as expectations over 0 and 1

    def forward(self, output: Tensor) -> BoundBernoulli:
        """The distribution whose logits are ``output``, [B, ...] or [K, B, ...]."""
        return BoundBernoulli(output)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """The logits of ``mean``, clipped to (0.001, 0.999) as in yburda/iwae: the initial output bias."""
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))

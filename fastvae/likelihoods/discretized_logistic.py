"""Pixels of a few hundred levels, each with a logistic distribution that is discretised to the levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastvae import ops
from fastvae.likelihoods.base import aligned, at_least_float32, event_stream, rows_columns
from fastvae.likelihoods.levels import PixelLevels

_START = -2.0  # log scale at the start: the logistic then covers about a quarter of the range of pixels


@dataclass(frozen=True)
class BoundDiscretizedLogistic:
    """Independent pixels ``level / (num_levels - 1)`` in [0, 1]; a level has the logistic's mass in its cell."""

    location: Tensor  # [B, ...] or [K, B, ...], in [-1, 1], the range of the pixels
    log_scale: Tensor  # as location
    num_levels: int

    @property
    def mean(self) -> Tensor:
        """The logistic's location on the scale of the pixels, clipped to [0, 1]."""
        return ((self.location + 1) / 2).clamp(0, 1)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log probability of the pixels' levels, in nats per example: [B], or [K, B] where the output has K samples.

        Args:
            target: [B, ...] pixels ``level / (num_levels - 1)``; rounding to the nearest level undoes float32's.
            mask: [B, ...] 1 for pixels that count, 0 for those that do not.
        """
        location, levels, mask = aligned("DiscretizedLogistic", self.location, self.levels_of(target), mask)
        log_scale = self.log_scale.reshape(location.shape)
        return -ops.discretized_logistic_nll(location, log_scale, levels, mask, num_levels=self.num_levels)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample each pixel, a level / (num_levels - 1); row i has the noise of row first_row + i."""
        location, log_scale = at_least_float32(self.location), at_least_float32(self.log_scale)
        uniform = ops.philox_uniform(noise_key, *rows_columns(location), stream=event_stream(stream))
        drawn = location + torch.exp(log_scale) * torch.logit(uniform.view(location.shape))
        return self.levels_of((drawn + 1) / 2) / (self.num_levels - 1)

    def probability_below(self, level: Tensor, num_levels: int | None = None) -> Tensor:
        """P(pixel's level < ``level``) for integers 0 .. num_levels of the location's shape; 0 and 1 at the ends.

        Raises:
            ValueError: the number of levels is not that of the distribution.
        """
        if num_levels not in (None, self.num_levels):
            raise ValueError(f"DiscretizedLogistic: pixels must have {self.num_levels} levels, got {num_levels}")
        location, log_scale = at_least_float32(self.location), at_least_float32(self.log_scale)
        edge = (2 * level - 1) / (self.num_levels - 1) - 1
        inside = torch.sigmoid((edge - location) * torch.exp(-log_scale))
        return torch.where(level <= 0, 0.0, torch.where(level >= self.num_levels, 1.0, inside))

    def levels_of(self, pixels: Tensor) -> Tensor:
        """The nearest level of pixels in [0, 1], as floats."""
        highest = self.num_levels - 1
        return (at_least_float32(pixels) * highest).round().clamp(0, highest)


class DiscretizedLogistic(PixelLevels):
    """8-bit pixels (Kingma et al. 2016, arXiv 1606.04934; Salimans et al. 2017, arXiv 1701.05517, equation 2).

    The decoder outputs two numbers per value: of its output ``[.., 2 C, H, W]`` the first C channels are the locations,
    in [-1, 1], the range of the pixels, and the others the raw log scales. The log scale is
    ``floor + softplus(raw - floor)``: far below a cell's width, a scale changes only the size of the gradient.

    Args:
        event_dim: dimensions of one example: 3 for [C, H, W]. The output's first one of them is twice as long.
        num_levels: number of values of a pixel, at least 2.
        log_scale_floor: the log scale stays above this.
    """

    option, numbers = "discretized-logistic", "a location and a log scale"

    def __init__(self, event_dim: int = 3, num_levels: int = 256, *, log_scale_floor: float = -7.0) -> None:
        super().__init__(event_dim, num_levels)
        self.log_scale_floor = log_scale_floor

    def forward(self, output: Tensor) -> BoundDiscretizedLogistic:
        """The distribution of ``output``, [B, 2 C, ...] or [K, B, 2 C, ...].

        Raises:
            ValueError: the output cannot be halved.
        """
        location, raw = self.halves(output)
        floor = self.log_scale_floor
        return BoundDiscretizedLogistic(location, floor + functional.softplus(raw - floor), self.num_levels)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """Initial output bias: locations at the mean example [C, ...], and a medium scale."""
        return torch.cat((2 * mean - 1, torch.full_like(mean, _START)))

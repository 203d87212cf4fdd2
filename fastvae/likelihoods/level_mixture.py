"""Mixtures of discretised logistics and of learned histograms over the levels of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from fastvae.likelihoods.base import LevelProbabilities, at_least_float32, with_ends


@dataclass(frozen=True)
class LevelMixture:
    """N independent values ``level / (L - 1)``, each a mixture of M logistics and T histograms.

    A logistic is discretised to the levels as in PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517, equation 2). The
    histograms are the same for all values; only their weights differ. They describe levels that occur more often than
    their neighbours, as in drawings, which no smooth distribution does.
    """

    log_weight: Tensor  # [M + T, N], logarithms of weights that sum to 1: first the logistics', then the histograms'
    location: Tensor  # [M, N], on the scale -1 .. 1 of the levels
    log_scale: Tensor  # [M, N]
    log_histogram: Tensor  # [T, L], logarithms of probabilities that sum to 1

    @property
    def num_levels(self) -> int:
        """L."""
        return self.log_histogram.shape[1]

    def log_prob(self, level: Tensor) -> Tensor:
        """Log probability of a level [N], whole numbers 0 .. L - 1 as floats, of each value: [N] nats."""
        highest = self.num_levels - 1
        location, log_scale = at_least_float32(self.location), at_least_float32(self.log_scale)
        per_scale = torch.exp(-log_scale)
        half_width = per_scale / highest
        center = (2 * level / highest - 1 - location) * per_scale
        below_upper, above_lower = logsigmoid(center + half_width), logsigmoid(half_width - center)
        inside = below_upper + above_lower + torch.log(-torch.expm1(-2 * half_width))
        logistics = torch.where(level <= 0, below_upper, torch.where(level >= highest, above_lower, inside))
        components = torch.cat((logistics, self.log_histogram.index_select(1, level.long())))
        return torch.logsumexp(at_least_float32(self.log_weight) + components, 0)

    def probability_below(self, level: Tensor, num_levels: int) -> Tensor:
        """P(value's level < ``level``) for integers 0 .. L of shape [N]; 0 and 1 at the ends.

        Raises:
            ValueError: the number of levels is not that of the mixture.
        """
        if num_levels != self.num_levels:
            raise ValueError(f"LevelMixture: pixels must have {self.num_levels} levels, got {num_levels}")
        edge = (2 * level - 1) / (self.num_levels - 1) - 1
        logistics = torch.sigmoid((edge - self.location) * self._per_scale)
        components = torch.cat((logistics, self._histogram_below.index_select(1, level)))
        return with_ends((self._weight * components).sum(0), level, self.num_levels)

    @cached_property
    def _weight(self) -> Tensor:
        return at_least_float32(self.log_weight).exp()

    @cached_property
    def _per_scale(self) -> Tensor:
        return torch.exp(-at_least_float32(self.log_scale))

    @cached_property
    def _histogram_below(self) -> Tensor:
        """P(level < l) of each histogram for l = 0 .. L, [T, L + 1]."""
        return pad(self.log_histogram.exp().cumsum(1), (1, 0))


def quantile(distribution: LevelProbabilities, probability: Tensor, num_levels: int) -> Tensor:
    """The smallest level at or below which each value lies with at least this probability [N]: int64 [N]."""
    low = torch.zeros(probability.shape, dtype=torch.int64, device=probability.device)
    for bit in reversed(range((num_levels - 1).bit_length())):
        middle = (low + 2**bit).clamp(max=num_levels)
        is_above = (middle < num_levels) & (distribution.probability_below(middle, num_levels) < probability)
        low = torch.where(is_above, middle, low)
    return low

"""How rare a value is among training rows, as a surprisal: minus the log of a tail probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GRID = 1001  # order statistics that represent a distribution: it resolves probabilities of .001
_TAIL = 0.1  # the fraction of training rows above which the tail is taken to be exponential


@dataclass(frozen=True)
class Tail:
    """The distribution of a statistic that is large for unusual rows, as training rows had it.

    Up to its 90 % quantile it is the empirical distribution. Above, the excess over that quantile is exponential with
    the mean of the training rows: a generalised Pareto distribution (Pickands 1975) of shape 0, so that values above
    all training rows are ranked too.
    """

    grid: Tensor
    """[G] float64, sorted order statistics of the training rows."""
    mean_excess: Tensor
    """[] float64, mean distance above the 90 % quantile of the training rows above it; positive."""

    @classmethod
    def of(cls, values: Tensor) -> Tail:
        """The distribution of the values [M] of the training rows, float64."""
        grid = order_statistics(values)
        start = _quantile(grid)
        above = values[values > start] - start
        spread = max(float(values.abs().max()), 1.0) * 1e-12  # equal values: any other one is very rare
        return cls(grid, above.mean().clamp_min(spread) if len(above) else torch.tensor(spread, dtype=torch.float64))

    def surprisal(self, values: Tensor) -> Tensor:
        """[N] -> [N] float64: -log P(statistic >= value) under the training rows' distribution; at least 0."""
        start = _quantile(self.grid)
        num = len(self.grid)
        below = torch.searchsorted(self.grid, values.contiguous())
        inside = -torch.log((num - below + 1) / (num + 1))
        beyond = -math.log(_TAIL) + (values - start) / self.mean_excess
        return torch.where(values > start, beyond, inside.double())


@dataclass(frozen=True)
class Marginals:
    """The distribution of each column alone, as the training rows have it."""

    grid: Tensor
    """[C, G] float64, sorted order statistics of each column of numbers; NaN for other columns."""
    log_odds: Tensor
    """[P] float64, per element of a row: -log(frequency of the category / that of the most frequent one); 0 for
    numbers."""

    @classmethod
    def of(cls, rows: Tensor, widths: tuple[int, ...]) -> Marginals:
        """The distributions of the columns of rows [M, P]; NaN where a value is missing."""
        parts = rows.split(widths, dim=1)
        nothing = torch.full((min(len(rows), _GRID),), torch.nan, dtype=torch.float64)
        grids = [order_statistics(part[:, 0], len(nothing)) if part.shape[1] == 1 else nothing for part in parts]
        odds = [_log_odds(part) if part.shape[1] > 1 else part.new_zeros(1) for part in parts]
        return cls(torch.stack(grids), torch.cat(odds))

    def surprisal(self, rows: Tensor, widths: tuple[int, ...]) -> Tensor:
        """[N, P] -> [N, C] float64: how rare each value is in its column; 0 where a value is missing.

        For a number it is -log of the two-sided tail probability, as in ECOD (Li et al. 2022, arXiv 2201.00382), which
        uses one-sided ones; for a category see `log_odds`.
        """
        parts, odds = rows.split(widths, dim=1), self.log_odds.split(widths)
        found = [
            _two_sided(part[:, 0], grid) if part.shape[1] == 1 else part.nan_to_num(0.0) @ odd
            for part, grid, odd in zip(parts, self.grid, odds, strict=True)
        ]
        return torch.stack(found, dim=1)


def order_statistics(values: Tensor, num: int | None = None) -> Tensor:
    """Evenly spaced order statistics of values [M] without NaN, sorted, float64: [num], or [min(M, 1001)]."""
    present = values[~values.isnan()].sort().values
    num = min(len(present), _GRID) if num is None else num
    if not len(present):
        return torch.full((num,), torch.nan, dtype=torch.float64)
    places = torch.linspace(0, len(present) - 1, num, dtype=torch.float64).round().long()
    return present[places].double().clone()


def _quantile(grid: Tensor) -> float:
    return float(grid[round((1 - _TAIL) * (len(grid) - 1))])


def _two_sided(values: Tensor, grid: Tensor) -> Tensor:
    """-log min(1, 2 min(F(x), 1 - F(x-))) of values [N], where F has at least half a step of the grid."""
    if bool(grid.isnan().any()):  # no training row has a value
        return torch.zeros_like(values)
    num, values = len(grid), values.contiguous()
    at_most = torch.searchsorted(grid, values, right=True)
    at_least = num - torch.searchsorted(grid, values)
    tail = torch.minimum(at_most, at_least).double().clamp_min(0.5) / num
    return -torch.log((2 * tail).clamp_max(1.0)).masked_fill(values.isnan(), 0.0)


def _log_odds(one_hot: Tensor) -> Tensor:
    """[M, n] -> [n]; each category has half a row more than were seen."""
    counts = one_hot.nan_to_num(0.0).sum(0) + 0.5
    return torch.log(counts.max() / counts)

"""Pixels of a few hundred levels, each with a beta-binomial distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn import functional

from fastvae import ops
from fastvae.likelihoods.base import aligned, at_least_float32, event_stream, rows_columns
from fastvae.likelihoods.levels import PixelLevels

_PIXELS = 2**15  # pixels whose table of probabilities is computed at a time: 67 MB for 256 levels
_FLOOR, _CAP = 1e-4, 1e3  # of both shape parameters; above the cap float32 would be inaccurate
_CONCENTRATION = 2.0  # alpha + beta at the start: between uniform (2) and the extremes (0)


@dataclass(frozen=True)
class BoundBetaBinomial:
    """Independent pixels ``level / n`` in [0, 1], ``n = num_levels - 1``; a level is BetaBinomial(n, alpha, beta)."""

    alpha: Tensor  # [B, ...] or [K, B, ...], above 0
    beta: Tensor  # as alpha
    num_levels: int

    @property
    def mean(self) -> Tensor:
        """The expected pixel, ``alpha / (alpha + beta)``."""
        return self.alpha / (self.alpha + self.beta)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log probability of the pixels' levels, in nats per example: [B], or [K, B] where the output has K samples.

        Args:
            target: [B, ...] pixels ``level / (num_levels - 1)``; rounding to the nearest level undoes float32's.
            mask: [B, ...] 1 for pixels that count, 0 for those that do not.
        """
        alpha, level, mask = aligned("BetaBinomial", self.alpha, self.levels_of(target), mask)
        if mask is not None:
            level = level.masked_fill(mask == 0, 0.0)  # a missing pixel may be NaN
        per_pixel = _log_mass(at_least_float32(alpha), at_least_float32(self.beta.reshape(alpha.shape)), level, self._n)
        return (per_pixel if mask is None else per_pixel * mask).sum(-1)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample each pixel, a level / (num_levels - 1); row i has the noise of row first_row + i."""
        uniform = ops.philox_uniform(noise_key, *rows_columns(self.alpha), stream=event_stream(stream))
        numbers = (each.flatten().split(_PIXELS) for each in (self.alpha, self.beta, uniform))
        levels = [
            (part.unsqueeze(-1) >= _below(alpha, beta, self._n)[..., 1:-1]).sum(-1)
            for alpha, beta, part in zip(*numbers, strict=True)
        ]
        return (torch.cat(levels).to(at_least_float32(self.alpha).dtype) / self._n).view(self.alpha.shape)

    def probability_below(self, level: Tensor, num_levels: int | None = None) -> Tensor:
        """P(pixel's level < ``level``) for integers 0 .. num_levels of alpha's shape; 0 and 1 at the ends.

        Raises:
            ValueError: the number of levels is not that of the distribution.
        """
        if num_levels not in (None, self.num_levels):
            raise ValueError(f"BetaBinomial: pixels must have {self.num_levels} levels, got {num_levels}")
        return self._table.gather(-1, level.unsqueeze(-1)).squeeze(-1)

    def levels_of(self, pixels: Tensor) -> Tensor:
        """The nearest level of pixels in [0, 1], as floats."""
        return (at_least_float32(pixels) * self._n).round().clamp(0, self._n)

    @property
    def _n(self) -> int:
        return self.num_levels - 1

    @cached_property
    def _table(self) -> Tensor:
        return _below(self.alpha, self.beta, self._n)


class BetaBinomial(PixelLevels):
    """8-bit pixels as in bits-back coding with ANS (Townsend et al. 2019, arXiv 1901.04866, section 3.2).

    It can have its mass at both ends of the levels, as the pixels of drawings and digits do. It is never narrower than
    a binomial distribution, so a mid-grey pixel of 256 levels costs at least 5 bits: photographs and smooth images need
    `DiscretizedLogistic`. The decoder outputs two numbers per value: of its output ``[.., 2 C, H, W]`` the first C
    channels give alpha and the others beta, each ``1e-4 + softplus(output)``, at most 1000.

    Args:
        event_dim: dimensions of one example: 3 for [C, H, W]. The output's first one of them is twice as long.
        num_levels: number of values of a pixel, at least 2.

    Raises:
        ValueError: fewer than two levels.
    """

    option, numbers = "beta-binomial", "two numbers"

    def forward(self, output: Tensor) -> BoundBetaBinomial:
        """The distribution of ``output``, [B, 2 C, ...] or [K, B, 2 C, ...].

        Raises:
            ValueError: the output cannot be halved.
        """
        alpha, beta = self.halves((_FLOOR + functional.softplus(at_least_float32(output))).clamp(max=_CAP))
        return BoundBetaBinomial(alpha, beta, self.num_levels)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """Initial output bias: the mean example [C, ...], and a medium concentration."""
        mean = mean.clamp(0.01, 0.99)
        shape = _CONCENTRATION * torch.cat((mean, 1 - mean)) - _FLOOR
        return shape + torch.log(-torch.expm1(-shape))  # the inverse of softplus


def _log_mass(alpha: Tensor, beta: Tensor, level: Tensor, n: int) -> Tensor:
    """Log probability of levels 0 .. n under BetaBinomial(n, alpha, beta)."""
    coefficients = torch.tensor(_log_coefficients(n), dtype=alpha.dtype, device=alpha.device)
    return (
        coefficients[level.long()]
        + (_log_gamma(level + alpha) - _log_gamma(alpha))
        + (_log_gamma(n - level + beta) - _log_gamma(beta))
        - (_log_gamma(n + alpha + beta) - _log_gamma(alpha + beta))
    )


@cache
def _log_coefficients(n: int) -> tuple[float, ...]:
    """The logarithms of the binomial coefficients of n."""
    return tuple(math.log(math.comb(n, count)) for count in range(n + 1))


def _log_gamma(x: Tensor) -> Tensor:
    """The logarithm of the gamma function of x above 0, by Stirling's series at x + 8.

    Unlike ``torch.lgamma`` it is vectorised, and ONNX has its operations.
    """
    product = x
    for shift in range(1, 8):
        product = product * (x + shift)
    y = x + 8
    series = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5)
    return (y - 0.5) * torch.log(y) - y + 0.5 * math.log(2 * math.pi) + series - torch.log(product)


def _below(alpha: Tensor, beta: Tensor, n: int) -> Tensor:
    """P(level < l) for l = 0 .. n + 1, float64 [..., n + 2], from the ratios of neighbouring levels' masses.

    The table is large, so it is computed in place.
    """
    alpha, beta = alpha.detach().double().unsqueeze(-1), beta.detach().double().unsqueeze(-1)
    low = torch.arange(n, dtype=torch.float64, device=alpha.device)
    mass = alpha.new_zeros((*alpha.shape[:-1], n + 1))
    torch.div(low + alpha, (n - 1 - low) + beta, out=mass[..., 1:])
    mass[..., 1:].mul_((n - low) / (low + 1)).log_()
    mass.cumsum_(-1).sub_(mass.amax(-1, keepdim=True)).exp_()
    below = alpha.new_zeros((*alpha.shape[:-1], n + 2))
    torch.cumsum(mass, -1, out=below[..., 1:])
    return below.div_(below[..., -1:].clone())

"""Dropout with counter-based noise, which does not depend on how a batch is split and is the same after a resume."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fastvae import ops


class KeyedDropout(nn.Module):
    """In training, sets each unit to 0 with probability ``rate`` and scales the others by ``1 / (1 - rate)``.

    See Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". The noise is a
    function of the key, of the example's row in the global batch and of the unit; no random number generator is used.

    Args:
        rate: probability that a unit is dropped, in [0, 1).
        site: number of this layer, 0 to 255, see `fastvae.ops.DropoutSite`; each site has independent noise.

    Raises:
        ValueError: the rate is outside [0, 1).
    """

    def __init__(self, rate: float, *, site: int) -> None:
        super().__init__()
        check_rate("KeyedDropout", "rate", rate)
        self.rate, self.site = rate, int(site)

    def forward(self, x: Tensor, noise_key: Tensor | None = None, *, num_samples: int = 1) -> Tensor:
        """Apply dropout; without a key, in evaluation mode, and at rate 0 the input is returned.

        Args:
            x: [B, ...], or [K * B, ...] with the K samples of an example B rows apart.
            noise_key: int64 [3] key of the batch, see `fastvae.noise_key`.
            num_samples: K, number of samples per example.
        """
        if noise_key is None or not self.training or self.rate == 0:
            return x
        dropped = keyed_uniform(noise_key, x.shape, self.site, num_samples) < self.rate
        return x.masked_fill(dropped, 0.0) * (1 / (1 - self.rate))

    def extra_repr(self) -> str:
        """The settings that ``print`` shows."""
        return f"rate={self.rate}, site={self.site}"


def drop_tokens(
    tokens: Tensor, rate: float, replacement: int, noise_key: Tensor, *, site: int = ops.DropoutSite.INPUT
) -> Tensor:
    """Replace each token id of [B, T] with probability ``rate``: word dropout (Bowman et al. 2016, arXiv 1511.06349).

    A decoder that does not see all previous words depends more on z.
    """
    if rate == 0:
        return tokens
    return tokens.masked_fill(keyed_uniform(noise_key, tokens.shape, site) < rate, replacement)


def keyed_uniform(noise_key: Tensor, shape: torch.Size, site: int, num_samples: int = 1) -> Tensor:
    """Uniform noise in (0, 1) of a dropout site with ``shape`` [K * B, ...], independent for each sample of a row."""
    rows, columns = shape[0] // num_samples, math.prod(shape[1:])
    parts = [
        ops.philox_uniform(noise_key, rows, columns, stream=ops.stream(ops.Use.DROPOUT, site=site, sample=sample))
        for sample in range(num_samples)
    ]
    return (parts[0] if num_samples == 1 else torch.cat(parts)).view(shape)


def check_rate(where: str, name: str, rate: float) -> None:
    """Check a dropout probability.

    Raises:
        ValueError: the rate is outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"{where}: {name} must be in [0, 1), got {rate}; use 0 to disable dropout")

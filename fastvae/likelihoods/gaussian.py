"""Real values with a learned variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae import ops
from fastvae.likelihoods.base import (
    Likelihood,
    LikelihoodSettings,
    aligned,
    at_least_float32,
    event_stream,
    rows_columns,
    with_ends,
)
from fastvae.likelihoods.support import Support
from fastvae.model_inputs import ModelInputs


@dataclass(frozen=True)
class BoundGaussian:
    """Independent values ``N(mean, exp(logvar))``."""

    mean: Tensor  # [B, ...] or [K, B, ...]
    logvar: Tensor  # [] or the event's shape: log variance

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density of ``target`` [B, ...], in nats per example: [B], or [K, B] if the mean has K samples."""
        mean, target, mask = aligned("Gaussian", self.mean, target, mask)
        return -ops.gaussian_nll(mean, target, self.logvar.flatten() if self.logvar.dim() else self.logvar, mask)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample once for each row of the mean; row i has the noise of row first_row + i."""
        mean = at_least_float32(self.mean)
        noise = ops.philox_normal(noise_key, *rows_columns(mean), stream=event_stream(stream)).view(mean.shape)
        return mean + torch.exp(0.5 * at_least_float32(self.logvar)) * noise

    def probability_below(self, level: Tensor, num_levels: int) -> Tensor:
        """P(pixel < level) of discrete pixels, elementwise and the shape of the mean.

        Pixel v has the density's mass in its cell [v / L, (v + 1) / L], as dequantised data do, and the outermost cells
        include the tails.

        Args:
            level: int64, the shape of the mean, each in 0 .. num_levels.
            num_levels: L, values that a pixel can take.
        """
        edge = level.to(self.mean.dtype) / num_levels
        return with_ends(torch.special.ndtr((edge - self.mean) * torch.exp(-0.5 * self.logvar)), level, num_levels)


class Gaussian(Likelihood):
    """Real values with a learned variance: the decoder's output is their mean.

    The log variance is ``floor + softplus(raw)``. Without a floor the likelihood of a value that is
    reconstructed exactly grows without bound (on learned variances: Rybkin et al. 2021, arXiv 2006.13202). The floor
    is smooth, because the gradient of a clamp is exactly 0 below it, and a variance would stay there.

    Args:
        event_shape: shape of the values, for one variance per value; None for one shared variance.
        logvar: initial log variance, above the floor.
        logvar_floor: the log variance stays above this (equal to it once softplus rounds to 0).

    Raises:
        ValueError: the start is not above the floor.
    """

    support = Support(is_density=True)

    def __init__(
        self, event_shape: int | Sequence[int] | None = None, *, logvar: float = 0.0, logvar_floor: float = -10.0
    ) -> None:
        super().__init__()
        if not logvar > logvar_floor:
            raise ValueError(
                f"Gaussian: logvar must be above logvar_floor, got {logvar} and {logvar_floor};"
                " start higher or lower the floor"
            )
        shape = () if event_shape is None else (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.logvar_floor = logvar_floor
        above_floor = logvar - logvar_floor
        raw = above_floor + math.log(-math.expm1(-above_floor))  # the inverse of softplus
        self.raw_logvar = nn.Parameter(torch.full(shape, raw))  # [] or the event's shape

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> Gaussian:
        """Build it with one variance or one per value, as in ``config.likelihood_logvar``."""
        variances = inputs.event_shape if config.likelihood_logvar == "per-dimension" else None
        return cls(variances, logvar=config.likelihood_logvar_start, logvar_floor=config.likelihood_logvar_floor)

    @property
    def logvar(self) -> Tensor:
        """The log variance, above the floor: [] or the event's shape."""
        return self.logvar_floor + functional.softplus(self.raw_logvar)

    def forward(self, output: Tensor) -> BoundGaussian:
        """The distribution whose mean is ``output``, [B, ...] or [K, B, ...]."""
        return BoundGaussian(output, self.logvar)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """Return ``mean`` itself, the initial output bias."""
        return mean

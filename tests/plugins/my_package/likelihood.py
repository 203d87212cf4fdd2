"""Real values with heavy tails."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.likelihoods import Likelihood


@dataclass(frozen=True)
class BoundLaplace:
    """p(x|z) with density exp(-|x - mean| / scale) / (2 scale)."""

    mean: Tensor  # [B, ...] or [K, B, ...]
    scale: Tensor  # []

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats per example: [B], or [K, B]."""
        each = -(target - self.mean).abs() / self.scale - torch.log(2 * self.scale)
        return (each if mask is None else each * mask).flatten(self.mean.dim() - target.dim() + 1).sum(-1)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One sample of x for each row of the mean."""
        stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.EVENT) if stream is None else stream
        shape = (len(self.mean), math.prod(self.mean.shape[1:]))
        u = ops.philox_uniform(noise_key, *shape, stream=stream).view(self.mean.shape) - 0.5
        return self.mean - self.scale * u.sign() * torch.log1p(-2 * u.abs())


class Laplace(Likelihood):
    """A Laplace distribution with one learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, output: Tensor) -> BoundLaplace:
        return BoundLaplace(output, self.log_scale.exp())

    def output_for_mean(self, mean: Tensor) -> Tensor:
        return mean

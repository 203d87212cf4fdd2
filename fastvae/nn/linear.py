"""The encoder of the linear VAE, whose optimum is probabilistic PCA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae.nn.condition import ConditionBias


class LinearEncoder(nn.Module):
    """An encoder with mu linear in x and a logvar shared by all examples: the exact posterior of a linear decoder.

    With a linear decoder and a Gaussian likelihood with one variance, the ELBO's optimum is the maximum-likelihood
    solution of probabilistic PCA (Lucas et al. 2019, arXiv 1911.02469), which can be used to test training.

    Args:
        input_dim: number of elements of an example; x is flattened.
        latent_dim: D, size of the latent.
        condition_dim: C, size of the condition; 0 for none.
    """

    def __init__(self, input_dim: int, latent_dim: int, *, condition_dim: int = 0) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mu = nn.Linear(input_dim, latent_dim)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))  # [D] log variance of q(z|x), shared by all x
        self.condition = ConditionBias(condition_dim, latent_dim)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x [B, ...] and a condition [B, C] to mu and logvar, each [B, D]."""
        mu = self.condition(self.mu(x.flatten(1).to(self.mu.weight.dtype)), condition)
        # Under autocast the linear layer's output has lower precision than logvar; both must have the same dtype.
        mu = mu.to(self.logvar.dtype)
        return mu, self.logvar.expand_as(mu)

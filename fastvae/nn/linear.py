"""The encoder of the linear VAE, whose optimum is probabilistic PCA."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae.nn.condition import ConditionBias


class LinearEncoder(nn.Module):
    """mu is linear in x, logvar the same for every example: the exact posterior's form for a linear decoder.

    With a linear decoder and a Gaussian likelihood of one variance, the ELBO's optimum is the maximum-likelihood
    solution of probabilistic PCA (Lucas et al. 2019, arXiv 1911.02469), which makes this model an exact test.

    Args:
        input_dim: numbers in one example, whatever its shape.
        latent_dim: D.
        condition_dim: C, numbers in a condition; 0 for a network that takes none.
    """

    def __init__(self, input_dim: int, latent_dim: int, *, condition_dim: int = 0) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mu = nn.Linear(input_dim, latent_dim)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))  # [D] log variance of q(z|x), shared by all x
        self.condition = ConditionBias(condition_dim, latent_dim)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From x [B, ...], and a condition [B, C], to mu and logvar, each [B, D]."""
        mu = self.condition(self.mu(x.flatten(1).to(self.mu.weight.dtype)), condition)
        # Autocast makes the linear layer's output narrower than the parameter; the pair must have one type.
        mu = mu.to(self.logvar.dtype)
        return mu, self.logvar.expand_as(mu)

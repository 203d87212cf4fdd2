"""Latent diagnostics: posterior means, and how many dimensions carry information."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae.records import Batch

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016 (arXiv 1509.00519, section 5.2): below it a dimension says nothing about x


def posterior_means(model: nn.Module, batch: Batch) -> Tensor | None:
    """The mean of q(z|x) of each example, [B, D], from ``model.encode``; None where the model gives no posterior."""
    encode = getattr(model, "encode", None)
    mu = getattr(encode(batch), "mu", None) if encode is not None else None
    return mu.flatten(1) if isinstance(mu, Tensor) else None


class LatentMoments:
    """Sums of posterior means and of their squares, in float64, so that any split of a data set can be added up."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None  # [2, D]: of mu and of mu squared; None before the first batch

    def add(self, mu: Tensor) -> None:
        """Count the means of some examples, [B, D]."""
        mu = mu.double()
        sums = torch.stack((mu.sum(0), mu.square().sum(0)))
        self.sums = sums if self.sums is None else self.sums + sums


def active_units(sums: Tensor, num_examples: int) -> int:
    """How many dimensions have posterior means of variance above `ACTIVE_VARIANCE` over the data.

    Args:
        sums: [2, D] float64, of mu and of mu squared over all examples (`LatentMoments`).
        num_examples: how many examples those are.
    """
    mean, mean_square = sums / num_examples
    return int((mean_square - mean.square() > ACTIVE_VARIANCE).sum())

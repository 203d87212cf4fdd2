"""The usual expressions in eager PyTorch, as baselines: the code that the fused operators replace.

Unlike ``ops.reference``, they have neither keyed noise nor its numerical accuracy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_rsample_kl(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """The reparameterised sample and the KL to N(0, I), in the usual implementation of Kingma and Welling's VAE."""
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn_like(std)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
    return z, kl


def gaussian_rsample_kl_prior(
    mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor
) -> tuple[Tensor, Tensor]:
    """The reparameterised sample and the KL to a learned prior."""
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn_like(std)
    ratio = logvar - prior_logvar
    kl = -0.5 * torch.sum(1 + ratio - (mu - prior_mu).pow(2) * torch.exp(-prior_logvar) - ratio.exp(), dim=1)
    return z, kl


def gaussian_rsample_kl_both(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The reparameterised sample and the KL per example and per dimension."""
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn_like(std)
    terms = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp())
    return z, terms.sum(1), terms.sum(0)


def gaussian_rsample_log_ratio(mu: Tensor, logvar: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """K samples and their log q(z|x) - log p(z), from the two log densities."""
    std = torch.exp(0.5 * logvar)
    z = mu + std * torch.randn(num_samples, *mu.shape, dtype=mu.dtype, device=mu.device)
    log_q = -0.5 * (math.log(2 * math.pi) + logvar + (z - mu).pow(2) / logvar.exp()).sum(2)
    log_p = -0.5 * (math.log(2 * math.pi) + z.pow(2)).sum(2)
    return z, log_q - log_p


def bernoulli_nll(logits: Tensor, target: Tensor) -> tuple[Tensor]:
    """Binary cross-entropy with logits, summed over each example."""
    return (functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1),)


def gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> tuple[Tensor]:
    """The negative log density of a normal distribution, summed over each example."""
    return (0.5 * (math.log(2 * math.pi) + logvar + (target - mean).pow(2) * torch.exp(-logvar)).sum(1),)


def discretized_logistic_nll(mean: Tensor, log_scale: Tensor, target: Tensor, num_levels: int) -> tuple[Tensor]:
    """A difference of sigmoids with clamps, as in PixelCNN++ and its successors (arXiv:1701.05517)."""
    x = 2 * target / (num_levels - 1) - 1
    inverse_scale = torch.exp(-log_scale)
    upper = (x - mean + 1 / (num_levels - 1)) * inverse_scale
    lower = (x - mean - 1 / (num_levels - 1)) * inverse_scale
    inner = torch.log((torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12))
    log_prob = torch.where(
        target == 0,
        functional.logsigmoid(upper),
        torch.where(target == num_levels - 1, functional.logsigmoid(-lower), inner),
    )
    return (-log_prob.sum(1),)


def multinomial_nll(logits: Tensor, counts: Tensor) -> tuple[Tensor]:
    """The dot product of counts and log-softmax."""
    return (-(functional.log_softmax(logits, dim=1) * counts).sum(1),)

"""Training objectives: ELBO, importance-weighted bound, KL schedules, free bits. Nats per example throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.durations import steps_of
from fastvae.objective.config import ObjectiveConfig
from fastvae.records import VAETerms


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Loss and reported terms of a training step, for each of B examples."""

    loss: Tensor
    """[B] nats, with gradient. Its mean over the GLOBAL batch is minimised."""
    elbo: Tensor
    """[B] nats, -(rate + distortion), independent of the weight on the rate, without the penalty; detached."""
    rate: Tensor
    """[B] nats, mean over samples; detached."""
    distortion: Tensor
    """[B] nats, mean over samples; detached."""
    penalty: Tensor | None = None
    """[B], mean over samples; detached. None for a model without one."""


@dataclass(frozen=True, kw_only=True)
class FreeBits:
    """The latent dimensions whose KL is penalised: their mean KL over the GLOBAL batch is above the floor."""

    floor_nats: float
    """KL per dimension that is not penalised, in nats."""
    mask: Tensor
    """[D] bool, True if the KL is above the floor; constant in the gradient."""


def kl_weight_at(config: ObjectiveConfig, step: int) -> float:
    """Return the weight on the rate at training step ``step``, counted from 0.

    A linear warm-up goes from ``kl_weight_start`` to ``kl_weight`` in ``kl_warmup`` (Bowman et al. 2016, arXiv
    1511.06349); the cyclical schedule starts it again every ``kl_cycle`` (Fu et al. 2019, arXiv 1903.10145).
    Both count from the end of the autoencoder phase, whose weight is ``kl_weight_start`` (Li et al. 2019, arXiv
    1909.00868). The durations of ``config`` must be in steps.
    """
    step -= steps_of(config.autoencoder_phase)
    if step < 0:
        return config.kl_weight_start
    if config.kl_schedule == "constant":
        return config.kl_weight
    if config.kl_schedule == "cyclical" and config.kl_cycle is not None:
        step %= steps_of(config.kl_cycle)
    done = min(1.0, step / steps_of(config.kl_warmup))
    return (1 - done) * config.kl_weight_start + done * config.kl_weight


def build_objective(
    config: ObjectiveConfig, terms: VAETerms, *, kl_weight: float | Tensor = 1.0, free_bits: FreeBits | None = None
) -> Objective:
    """Return the objective of ``config``: `iw_bound` for several samples, else `elbo`."""
    if config.num_samples > 1:
        return iw_bound(terms, kl_weight)
    return elbo(terms, kl_weight, free_bits=free_bits)


def elbo(terms: VAETerms, kl_weight: float | Tensor = 1.0, *, free_bits: FreeBits | None = None) -> Objective:
    """The (negative) evidence lower bound, ``distortion + kl_weight * rate`` (Kingma and Welling 2013, equation 3).

    The terms' penalty is added to the loss, but not to the reported ELBO.

    Args:
        terms: terms of one forward pass; for K samples their mean is used.
        kl_weight: weight on the rate in the loss; the reported ELBO does not include it.
        free_bits: the rate becomes ``sum_d max(floor, KL_d)``, KL_d the mean over the GLOBAL batch (Kingma et al. 2016,
            arXiv 1606.04934, appendix C). It is a property of the batch; each example has an equal part of it.

    Raises:
        ValueError: free bits without ``terms.rate_per_dimension``.
    """
    rate, distortion = _mean_over_samples(terms.rate), _mean_over_samples(terms.distortion)
    paid = rate if free_bits is None else _paid_rate(terms, free_bits)
    return _objective(terms, distortion + kl_weight * paid)


def iw_bound(terms: VAETerms, kl_weight: float | Tensor = 1.0) -> Objective:
    """The (negative) importance-weighted bound, ``-log mean_k exp(-distortion_k - rate_k)`` (Burda et al. 2016,
    arXiv 1509.00519, equation 8).

    The terms' penalty is added to the loss.

    Args:
        terms: terms of one forward pass with K > 1 samples, rate and distortion [K, B].
        kl_weight: weight on each sample's rate; the loss is a bound for 1 only.

    Raises:
        ValueError: the terms have one closed-form rate instead of K samples.
    """
    if terms.rate.dim() != 2:
        raise ValueError(
            f"iw_bound: terms must have K samples, rate [K, B], got {list(terms.rate.shape)};"
            " call the model with num_samples of at least 2"
        )
    loss = -log_mean_exp(-terms.distortion - kl_weight * terms.rate)
    return _objective(terms, loss)


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """``log(mean_k exp(w_k))`` over the first dimension, [K, ...] -> [...], without overflow."""
    return torch.logsumexp(log_weights, dim=0) - math.log(log_weights.shape[0])


def free_bits_mask(mean_kl_per_dimension: Tensor, floor_nats: float) -> Tensor:
    """True for each latent dimension whose mean KL over the GLOBAL batch, [D] nats, is above the floor; no gradient."""
    return mean_kl_per_dimension.detach() > floor_nats


def _paid_rate(terms: VAETerms, free_bits: FreeBits) -> Tensor:
    if terms.rate_per_dimension is None:
        raise ValueError(
            "elbo: free bits need terms.rate_per_dimension, got None; call the model with per_dimension=True"
        )
    mask = free_bits.mask.to(terms.rate_per_dimension.dtype)
    num_local = max(terms.distortion.shape[-1], 1)  # an empty batch must have gradients of 0, not 0 / 0
    share = (mask * terms.rate_per_dimension).sum() / num_local + free_bits.floor_nats * (1 - mask).sum()
    return share.expand(terms.distortion.shape[-1])


def _mean_over_samples(nats: Tensor) -> Tensor:
    return nats.mean(0) if nats.dim() == 2 else nats


def _objective(terms: VAETerms, loss: Tensor) -> Objective:
    rate, distortion = (_mean_over_samples(part).detach() for part in (terms.rate, terms.distortion))
    penalty = None if terms.penalty is None else _mean_over_samples(terms.penalty)
    return Objective(
        loss=loss if penalty is None else loss + penalty,
        elbo=-(rate + distortion),
        rate=rate,
        distortion=distortion,
        penalty=None if penalty is None else penalty.detach(),
    )

"""Training objectives: ELBO, importance-weighted bound, KL schedules, free bits. Nats per example throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fastvae.records import VAETerms
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a training step minimises, and what it reports, for each of B examples."""

    loss: Tensor  # [B] nats, with gradient; its sum over the GLOBAL batch over that batch's size is what is minimised
    elbo: Tensor  # [B] nats, -(rate + distortion), whatever the weight on the rate; detached
    rate: Tensor  # [B] nats, mean over samples; detached
    distortion: Tensor  # [B] nats, mean over samples; detached


@dataclass(frozen=True, kw_only=True)
class FreeBits:
    """Which latent dimensions pay for their rate: those whose mean KL over the GLOBAL batch is above the floor."""

    floor_nats: float  # what each dimension may use for nothing
    mask: Tensor  # [D] bool, True where the KL is above the floor; constant in the gradient


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Settings):
    """What is minimised."""

    num_samples: int = 1
    """Draws of z for each example; more than 1 trains the importance-weighted bound (IWAE)."""
    kl_weight: float = 1.0
    """Weight on the rate, once the schedule has reached it; 1 is the ELBO."""
    kl_schedule: Literal["constant", "linear", "cyclical"] = "constant"
    """How the weight gets there: at once, over a linear warm-up from 0, or over one at the start of every cycle."""
    kl_warmup_steps: int = 0
    """Steps of the linear warm-up, of the run or of each cycle."""
    kl_cycle_steps: int | None = None
    """Steps of one cycle of the cyclical schedule, its warm-up included."""
    kl_weight_start: float = 0.0
    """Weight that a warm-up starts from, and that an autoencoder's steps have: above 0 it bounds what z holds."""
    autoencoder_steps: int = 0
    """Steps at the start that train encoder and decoder as an autoencoder, at the weight that a warm-up starts from;
    then the decoder starts anew, and the schedule begins."""
    free_bits: float | None = None
    """Nats of KL that each latent dimension may use for nothing; None for none."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"ObjectiveConfig: num_samples must be at least 1, got {self.num_samples}")
        weights = (self.kl_weight, self.kl_weight_start)
        if not all(map(math.isfinite, weights)) or min(*weights, self.kl_warmup_steps, self.autoencoder_steps) < 0:
            raise ValueError(
                "ObjectiveConfig: kl_weight, kl_weight_start, kl_warmup_steps, autoencoder_steps must be numbers >= 0,"
                f" got {self.kl_weight}, {self.kl_weight_start}, {self.kl_warmup_steps} and {self.autoencoder_steps}"
            )
        if self.kl_schedule != "constant" and self.kl_warmup_steps < 1:
            raise ValueError(f"ObjectiveConfig: kl_schedule={self.kl_schedule!r} needs kl_warmup_steps >= 1, got 0")
        if self.kl_schedule == "cyclical" and (self.kl_cycle_steps or 0) < self.kl_warmup_steps:
            raise ValueError(
                f"ObjectiveConfig: kl_cycle_steps must hold its warm-up of {self.kl_warmup_steps} steps,"
                f" got {self.kl_cycle_steps}"
            )
        if self.free_bits is not None and (not 0 <= self.free_bits < math.inf or self.num_samples > 1):
            raise ValueError(
                "ObjectiveConfig: free_bits must be a number >= 0 and wants num_samples=1, where the KL is exact,"
                f" got free_bits={self.free_bits}, num_samples={self.num_samples}"
            )


def kl_weight_at(config: ObjectiveConfig, step: int) -> float:
    """The weight on the rate at training step ``step``, counted from 0.

    A linear warm-up goes from ``kl_weight_start`` to ``kl_weight`` in ``kl_warmup_steps`` (Bowman et al. 2016, arXiv
    1511.06349); the cyclical schedule starts it again every ``kl_cycle_steps`` (Fu et al. 2019, arXiv 1903.10145).
    Both count from the end of the autoencoder's steps, which have the weight of the start (Li et al. 2019, arXiv
    1909.00868).
    """
    if step < config.autoencoder_steps:
        return config.kl_weight_start
    step -= config.autoencoder_steps
    if config.kl_schedule == "constant":
        return config.kl_weight
    if config.kl_schedule == "cyclical" and config.kl_cycle_steps is not None:
        step %= config.kl_cycle_steps
    done = min(1.0, step / config.kl_warmup_steps)
    return (1 - done) * config.kl_weight_start + done * config.kl_weight


def build_objective(
    config: ObjectiveConfig, terms: VAETerms, *, kl_weight: float | Tensor = 1.0, free_bits: FreeBits | None = None
) -> Objective:
    """The objective that ``config`` asks for: `iw_bound` where it has several samples, `elbo` otherwise."""
    if config.num_samples > 1:
        return iw_bound(terms, kl_weight)
    return elbo(terms, kl_weight, free_bits=free_bits)


def elbo(terms: VAETerms, kl_weight: float | Tensor = 1.0, *, free_bits: FreeBits | None = None) -> Objective:
    """The (negative) evidence lower bound, ``distortion + kl_weight * rate`` (Kingma and Welling 2013, equation 3).

    Args:
        terms: of one forward pass; with K samples their mean is the estimate.
        kl_weight: weight on the rate in the loss; the reported ELBO never has it.
        free_bits: the rate becomes ``sum_d max(floor, KL_d)``, KL_d the mean over the GLOBAL batch (Kingma et al. 2016,
            arXiv 1606.04934, appendix C). It belongs to the batch; each example carries an even share of it.

    Raises:
        ValueError: free bits without ``terms.rate_per_dimension``.
    """
    rate, distortion = _mean_over_samples(terms.rate), _mean_over_samples(terms.distortion)
    paid = rate if free_bits is None else _paid_rate(terms, free_bits)
    return _objective(distortion + kl_weight * paid, rate, distortion)


def iw_bound(terms: VAETerms, kl_weight: float | Tensor = 1.0) -> Objective:
    """The (negative) importance-weighted bound, ``-log mean_k exp(-distortion_k - rate_k)`` (Burda et al. 2016,
    arXiv 1509.00519, equation 8).

    Args:
        terms: of one forward pass with K > 1 samples, rate and distortion [K, B].
        kl_weight: weight on each draw's rate; the loss is a bound at 1 only.

    Raises:
        ValueError: the terms hold one closed-form rate instead of K samples.
    """
    if terms.rate.dim() != 2:
        raise ValueError(
            f"iw_bound: terms must hold K samples, rate [K, B], got {list(terms.rate.shape)};"
            " call the model with num_samples of at least 2"
        )
    loss = -log_mean_exp(-terms.distortion - kl_weight * terms.rate)
    return _objective(loss, _mean_over_samples(terms.rate), _mean_over_samples(terms.distortion))


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
    num_local = max(terms.distortion.shape[-1], 1)  # an empty batch must give gradients of 0, not 0 / 0
    share = (mask * terms.rate_per_dimension).sum() / num_local + free_bits.floor_nats * (1 - mask).sum()
    return share.expand(terms.distortion.shape[-1])


def _mean_over_samples(nats: Tensor) -> Tensor:
    return nats.mean(0) if nats.dim() == 2 else nats


def _objective(loss: Tensor, rate: Tensor, distortion: Tensor) -> Objective:
    rate, distortion = rate.detach(), distortion.detach()
    return Objective(loss=loss, elbo=-(rate + distortion), rate=rate, distortion=distortion)

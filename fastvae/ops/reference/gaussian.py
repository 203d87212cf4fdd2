"""Samples of diagonal Gaussians, their KL divergences and log ratios, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastvae.ops.reference.philox import philox_normal

_SERIES_TERMS = {torch.float32: 11, torch.float64: 19}  # of exp(x) - 1 - x where |x| < 1: the rest is below half an ulp


def exp_minus_one_minus(x: Tensor) -> Tensor:
    """exp(x) - 1 - x to the last bits, never below 0: where |x| < 1 the series x**2/2! + x**3/3! + ..., then expm1."""
    near = x.clamp(-1, 1)
    series = torch.zeros_like(x)
    for n in range(_SERIES_TERMS[x.dtype] + 1, 1, -1):
        series = series * near + 1 / math.factorial(n)
    # From 1000 on exp overflows whatever the dtype: the clamp only keeps inf - inf out.
    return torch.where(x.abs() < 1, series * near * near, torch.expm1(x) - x.clamp(max=1000))


def sum_in_order(terms: Tensor, dim: int) -> Tensor:
    """The sum over a dimension, halves added to halves: accurate, and in an order that depends on its length alone."""
    while terms.shape[dim] > 1:
        half = terms.shape[dim] // 2
        folded = terms.narrow(dim, 0, half) + terms.narrow(dim, half, half)
        terms = torch.cat((folded, terms.narrow(dim, 2 * half, terms.shape[dim] - 2 * half)), dim=dim)
    return terms.sum(dim)  # of one term or none


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the computation: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _as_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, ...] -> [B, D] contiguous, in the dtype to compute in."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).to(dtype).contiguous()


def gaussian_rsample_kl(mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    """Z = mu + exp(logvar/2) * noise; KL(q || N(0, I)) = sum_d (mu**2 + exp(logvar) - 1 - logvar) / 2."""
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    noise = philox_normal(key, m.shape[0], m.shape[1], stream, m.dtype)
    z = m + torch.exp(lv / 2) * noise
    kl = sum_in_order((m * m + exp_minus_one_minus(lv)) / 2, dim=1)
    return z.to(mu.dtype).view(mu.shape), kl


def gaussian_rsample_kl_backward(
    grad_z: Tensor | None,  # [B, ...]
    grad_kl: Tensor | None,  # [B]
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    stream: int,
    need_mu: bool,
    need_logvar: bool,
) -> tuple[Tensor, Tensor]:
    """Chain rule: dz/dlogvar = exp(logvar/2) * noise / 2; dKL/dmu = mu, dKL/dlogvar = (exp(logvar) - 1) / 2."""
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    grad_mu, grad_logvar = torch.zeros_like(m), torch.zeros_like(lv)
    if grad_z is not None:
        g = _as_rows(grad_z, m.dtype)
        grad_mu = grad_mu + g
        if need_logvar:
            noise = philox_normal(key, m.shape[0], m.shape[1], stream, m.dtype)
            grad_logvar = grad_logvar + g * torch.exp(lv / 2) * noise / 2
    if grad_kl is not None:
        g = grad_kl.to(m.dtype).unsqueeze(1)
        grad_mu = grad_mu + g * m
        grad_logvar = grad_logvar + g * torch.expm1(lv) / 2
    return _needed(grad_mu, mu, need_mu), _needed(grad_logvar, logvar, need_logvar)


def gaussian_rsample_kl_full(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    key: Tensor,
    stream: int,
    reduction: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same z; KL(q || p) = sum ((mu - prior_mu)**2 p + exp(l) - 1 - l) / 2.

    p is the prior's precision exp(-prior_logvar), and l = logvar - prior_logvar. Reduction 0 keeps mu's shape, 1 sums
    over each example, 2 over the batch, 3 does both.
    """
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    noise = philox_normal(key, m.shape[0], m.shape[1], stream, m.dtype)
    z = (m + torch.exp(lv / 2) * noise).to(mu.dtype).view(mu.shape)
    difference, precision, ratio = _against_prior(m, lv, prior_mu, prior_logvar)
    terms = (difference * difference * precision + exp_minus_one_minus(ratio)) / 2
    empty = terms.new_empty(0)
    if reduction == 0:
        return z, terms.view(mu.shape), empty
    kl = sum_in_order(terms, dim=1) if reduction & 1 else empty
    return z, kl, sum_in_order(terms, dim=0) if reduction & 2 else empty


def gaussian_rsample_kl_full_backward(
    grad_z: Tensor | None,  # [B, ...]
    grad_kl: Tensor | None,  # [B], or as mu without a reduction
    grad_kl_per_dimension: Tensor | None,  # [D]
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    key: Tensor,
    stream: int,
    reduction: int,
    need_mu: bool,
    need_logvar: bool,
    need_prior_mu: bool,
    need_prior_logvar: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Chain rule with p and l as above: dKL/dmu = (mu - prior_mu) p = -dKL/dprior_mu, dKL/dlogvar = (exp(l) - 1) / 2,
    dKL/dprior_logvar = -((mu - prior_mu)**2 p + exp(l) - 1) / 2.
    """
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    difference, precision, ratio = _against_prior(m, lv, prior_mu, prior_logvar)
    kl_mu, kl_logvar = difference * precision, torch.expm1(ratio) / 2
    grads_kl = [None if grad_kl is None or reduction == 2 else _per_example(grad_kl, m)]
    grads_kl += [grad_kl_per_dimension.to(m.dtype) if grad_kl_per_dimension is not None and reduction & 2 else None]
    grads = [torch.zeros_like(m) for _ in range(4)]
    for g in grads_kl:
        if g is not None:
            terms = (kl_mu, kl_logvar, -kl_mu, -(difference * kl_mu / 2 + kl_logvar))
            grads = [grad + g * term for grad, term in zip(grads, terms, strict=True)]
    if grad_z is not None:
        noise = philox_normal(key, m.shape[0], m.shape[1], stream, m.dtype)
        g = _as_rows(grad_z, m.dtype)
        grads[0], grads[1] = grads[0] + g, grads[1] + g * torch.exp(lv / 2) * noise / 2
    needs = (need_mu, need_logvar, need_prior_mu, need_prior_logvar)
    grad_mu, grad_logvar, grad_prior_mu, grad_prior_logvar = (
        _needed(grad, mu, need) for grad, need in zip(grads, needs, strict=True)
    )
    return grad_mu, grad_logvar, grad_prior_mu, grad_prior_logvar


def _against_prior(
    m: Tensor, lv: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(difference of means, the prior's precision, difference of log variances), each [B, D]."""
    if prior_mu is None or prior_logvar is None:
        return m, torch.ones_like(m), lv
    prior_lv = _as_rows(prior_logvar, m.dtype)
    return m - _as_rows(prior_mu, m.dtype), torch.exp(-prior_lv), lv - prior_lv


def _per_example(gradient: Tensor, m: Tensor) -> Tensor:
    """[B] -> [B, 1], [B, ...] -> [B, D]"""
    return gradient.to(m.dtype).reshape(m.shape[0], 1 if gradient.dim() == 1 else m.shape[1])


def gaussian_rsample_log_ratio(
    mu: Tensor, logvar: Tensor, key: Tensor, num_samples: int, stream: int, first_sample: int
) -> tuple[Tensor, Tensor]:
    """Sum_d (z**2 - noise**2 - logvar) / 2 = log q(z|x) - log p(z), z multiplied out so that nothing large cancels."""
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    noise = _noise_of_samples(key, m, num_samples, stream, first_sample)
    e = torch.exp(lv / 2) * noise
    z = m + e
    log_ratio = sum_in_order(((z + e) * m + torch.expm1(lv) * noise * noise - lv) / 2, dim=2)
    return z.to(mu.dtype).view(num_samples, *mu.shape), log_ratio


def gaussian_rsample_log_ratio_backward(
    grad_z: Tensor | None,  # [K, B, ...]
    grad_log_ratio: Tensor | None,  # [K, B]
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    num_samples: int,
    stream: int,
    first_sample: int,
    need_mu: bool,
    need_logvar: bool,
) -> tuple[Tensor, Tensor]:
    """Chain rule, e = exp(logvar/2) * noise: dz/dlogvar = e / 2; dratio/dmu = z, dratio/dlogvar = (z * e - 1) / 2."""
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    e = torch.exp(lv / 2) * _noise_of_samples(key, m, num_samples, stream, first_sample)
    z = m + e
    grad_mu, grad_logvar = torch.zeros_like(z), torch.zeros_like(z)
    if grad_z is not None:
        g = grad_z.reshape(z.shape).to(m.dtype)
        grad_mu, grad_logvar = grad_mu + g, grad_logvar + g * e / 2
    if grad_log_ratio is not None:
        g = grad_log_ratio.to(m.dtype).unsqueeze(2)
        grad_mu, grad_logvar = grad_mu + g * z, grad_logvar + g * (z * e - 1) / 2
    grad_mu, grad_logvar = sum_in_order(grad_mu, dim=0), sum_in_order(grad_logvar, dim=0)
    return _needed(grad_mu, mu, need_mu), _needed(grad_logvar, logvar, need_logvar)


def _noise_of_samples(key: Tensor, like: Tensor, num_samples: int, stream: int, first_sample: int) -> Tensor:
    """[K, B, D]: sample k has the stream's word plus first_sample + k."""
    samples = stream + first_sample + torch.arange(num_samples, device=key.device)
    return philox_normal(key, like.shape[0], like.shape[1], samples.view(num_samples, 1, 1), like.dtype)


def _needed(gradient: Tensor, of: Tensor, need: bool) -> Tensor:
    """The gradient as the operators return it: in its input's dtype and shape, or empty if it is not needed."""
    return gradient.to(of.dtype).view(of.shape) if need else of.new_empty(0)

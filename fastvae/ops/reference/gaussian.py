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
    return terms.sum(dim)  # of one term, or of none


def compute_dtype(x: Tensor) -> torch.dtype:
    """What the operators compute in: float64 for float64, else float32."""
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
    """The gradient as the operators hand it back: in its input's dtype and shape, or empty where nobody asks for it."""
    return gradient.to(of.dtype).view(of.shape) if need else of.new_empty(0)

"""The operators' math in plain PyTorch: what the native kernels are tested against, and what runs without them.

It works on any device and under torch.compile. Values are computed in float32 (in float64 for float64 input) and rounded once, at the
end. Whatever is summed is summed in one fixed order, so that no bit depends on the batch's split or on the number of threads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
# Philox's multipliers less 2**32: with them no product leaves int64 (|x * c| < 2**62).
_MULTIPLIERS = (0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_SERIES_TERMS = {torch.float32: 11, torch.float64: 19}  # of exp(l) - 1 - l where |l| < 1: the rest is below half an ulp


def philox4x32_10(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).

    Counter and key words are int64 tensors that hold uint32 values and broadcast; so are the four words that come back.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and the low word of x * (multiplier + 2**32), exactly."""
    product = x * multiplier
    return x + (product >> 32), product & _MASK


def _philox_blocks(key: Tensor, rows: int, columns: int, stream: int) -> tuple[Tensor, ...]:
    """Four words, each [rows, ceil(columns / 4)]: block j of a row serves its columns 4j to 4j + 3."""
    seed, step, first_row = key.unbind()
    row = (first_row + torch.arange(rows, device=key.device)).unsqueeze(1)
    block = torch.arange((columns + 3) // 4, device=key.device)
    counter = (block, row & _MASK, (row >> 32) & _MASK, torch.full_like(seed, stream))
    return philox4x32_10(counter, (seed & _MASK, step & _MASK))


def philox_integers(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
    words = torch.stack(_philox_blocks(key, rows, columns, stream), dim=-1)
    return words.view(rows, words.shape[1] * 4)[:, :columns].contiguous()


def philox_uniform(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
    # In float32 the largest 128 words would round to 1; they give the number below it instead.
    return _uniform(philox_integers(key, rows, columns, stream), torch.float32).clamp(max=1 - 2**-24)


def philox_normal(key: Tensor, rows: int, columns: int, stream: int, dtype: torch.dtype = torch.float32) -> Tensor:
    word0, word1, word2, word3 = _philox_blocks(key, rows, columns, stream)
    radius_words, angle_words = torch.stack((word0, word2), dim=-1), torch.stack((word1, word3), dim=-1)
    noise = box_muller(radius_words, angle_words, dtype)  # [rows, blocks, pair, 2]
    return noise.view(rows, word0.shape[1] * 4)[:, :columns].contiguous()


def box_muller(radius_words: Tensor, angle_words: Tensor, dtype: torch.dtype) -> Tensor:
    """Two normals of two words (Box & Muller 1958), the cosine's first, along a new last dimension."""
    # log u where u is small, log1p(-(1 - u)) where it is near 1 and a float32 could not hold it.
    below_half = radius_words < 2**31
    log_u = torch.where(
        below_half,
        torch.log(_uniform(radius_words, dtype)),
        torch.log1p(-_uniform(_MASK - radius_words, dtype)),
    )
    radius = torch.sqrt(-2 * log_u)
    angle = 2 * math.pi * _uniform(angle_words, dtype)
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)


def _uniform(words: Tensor, dtype: torch.dtype) -> Tensor:
    """(word + 1/2) / 2**32: the middle of the word's cell."""
    return words.to(dtype) * 2**-32 + 2**-33


def exp_minus_one_minus(x: Tensor) -> Tensor:
    """exp(x) - 1 - x to the last bits: the Taylor series x**2/2! + x**3/3! + ... where |x| < 1, expm1(x) - x beyond; never below 0."""
    near = x.clamp(-1, 1)
    series = torch.zeros_like(x)
    for n in range(_SERIES_TERMS[x.dtype] + 1, 1, -1):
        series = series * near + 1 / math.factorial(n)
    return torch.where(x.abs() < 1, series * near * near, torch.expm1(x) - x)


def sum_columns(terms: Tensor) -> Tensor:
    """[B, D] -> [B], halves added to halves: accurate, and in an order that depends on D alone."""
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        folded = terms[:, :half] + terms[:, half : 2 * half]
        terms = torch.cat((folded, terms[:, 2 * half :]), dim=1)
    return terms.sum(dim=1)  # of one column, or of none


def compute_dtype(x: Tensor) -> torch.dtype:
    """What the operators compute in: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _as_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, ...] -> [B, D] contiguous, in the dtype to compute in."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).to(dtype).contiguous()


def gaussian_rsample_kl(mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    m, lv = _as_rows(mu, compute_dtype(mu)), _as_rows(logvar, compute_dtype(mu))
    noise = philox_normal(key, m.shape[0], m.shape[1], stream, m.dtype)
    z = m + torch.exp(lv / 2) * noise
    kl = sum_columns((m * m + exp_minus_one_minus(lv)) / 2)
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
    """dz/dmu = 1, dz/dlogvar = exp(logvar/2) * noise / 2; dKL/dmu = mu, dKL/dlogvar = (exp(logvar) - 1) / 2."""
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


def _needed(gradient: Tensor, of: Tensor, need: bool) -> Tensor:
    """The gradient as the operators hand it back: in its input's dtype and shape, or empty where nobody asks for it."""
    return gradient.to(of.dtype).view(of.shape) if need else of.new_empty(0)

"""Negative log likelihoods of data under a decoder's output, and their gradients, in plain PyTorch.

A decoder's output is [B, ...] or, of K importance samples, [K, B, ...]; the data and their mask are [B, ...]. Where the
mask is False an element is ignored: its value and gradient are 0, even if it is NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastvae.ops.reference.gaussian import _needed, compute_dtype, sum_in_order

_LOG_2PI = math.log(2 * math.pi)


# Below it a cell's width over the scale has no digits in float32, and the mass between its edges is the width.
_LEAST_WIDTH = 1.1754944e-38


def bernoulli_nll(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """-t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)) = max(l, 0) - l t + log(1 + exp(-|l|)), summed by example."""
    lg, t = _as_samples(logits, target), _as_data(target, compute_dtype(logits))
    terms = (lg.clamp(min=0) - lg * t) + torch.log1p(torch.exp(-lg.abs()))
    return _sum_examples(terms, logits, target, mask)


def bernoulli_nll_backward(grad_nll: Tensor, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Chain rule: dnll/dl = sigmoid(l) - t."""
    lg, t = _as_samples(logits, target), _as_data(target, compute_dtype(logits))
    return _needed(_masked(_per_sample(grad_nll, lg) * (_sigmoid(lg) - t), target, mask), logits, True)


def bernoulli_nll_and_gradient(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The values and their derivatives, sigmoid(l) - t."""
    nll = bernoulli_nll(logits, target, None)
    return nll, bernoulli_nll_backward(torch.ones_like(nll), logits, target, None)


def gaussian_nll(mean: Tensor, target: Tensor, logvar: Tensor, mask: Tensor | None) -> Tensor:
    """(log(2 pi) + logvar + (target - mean)**2 exp(-logvar)) / 2, summed over each example."""
    m, t = _as_samples(mean, target), _as_data(target, compute_dtype(mean))
    lv = _spread(logvar, mean, target)
    terms = (_LOG_2PI + lv + (t - m).square() * torch.exp(-lv)) / 2
    return _sum_examples(terms, mean, target, mask)


def gaussian_nll_backward(
    grad_nll: Tensor,
    mean: Tensor,
    target: Tensor,
    logvar: Tensor,
    mask: Tensor | None,
    need_mean: bool,
    need_logvar: bool,
) -> tuple[Tensor, Tensor]:
    """Chain rule with e = (mean - target) exp(-logvar): dnll/dmean = e; dnll/dlogvar = (1 - e (mean - target)) / 2."""
    m, t = _as_samples(mean, target), _as_data(target, compute_dtype(mean))
    lv, g = _spread(logvar, mean, target), _per_sample(grad_nll, m)
    error = (m - t) * torch.exp(-lv)
    grad_mean = _masked(g * error, target, mask)
    grad_logvar = _masked(g * (1 - error * (m - t)) / 2, target, mask)
    return _needed(grad_mean, mean, need_mean), _gathered(grad_logvar, logvar, mean, need_logvar)


def discretized_logistic_nll(
    mean: Tensor, log_scale: Tensor, target: Tensor, mask: Tensor | None, num_levels: int
) -> Tensor:
    """-log of a logistic's mass in the level's cell, the outermost cells reaching to infinity, summed by example.

    With a and b the cell's upper and lower edge in units of the scale, sigmoid(a) - sigmoid(b) =
    sigmoid(a) sigmoid(-b) (1 - exp(b - a)): nothing cancels, however small the mass.
    """
    a, b, width, t = _cell(mean, log_scale, target, num_levels)
    bounded = (t > 0) & (t < num_levels - 1)
    log_width = math.log(2 / (num_levels - 1)) - _spread(log_scale, mean, target)
    terms = (
        torch.where(t < num_levels - 1, _softplus(-a), 0.0)
        + torch.where(t > 0, _softplus(b), 0.0)
        - torch.where(bounded, torch.where(width < _LEAST_WIDTH, log_width, _log_one_minus_exp_minus(width)), 0.0)
    )
    return _sum_examples(terms, mean, target, mask)


def discretized_logistic_nll_backward(
    grad_nll: Tensor,
    mean: Tensor,
    log_scale: Tensor,
    target: Tensor,
    mask: Tensor | None,
    num_levels: int,
    need_mean: bool,
    need_log_scale: bool,
) -> tuple[Tensor, Tensor]:
    """Chain rule: da/dmean = db/dmean = -1 / scale, da/dlog_scale = -a, db/dlog_scale = -b."""
    a, b, width, t = _cell(mean, log_scale, target, num_levels)
    upper = torch.where(t < num_levels - 1, _sigmoid(-a), 0.0)
    lower = torch.where(t > 0, _sigmoid(b), 0.0)
    bounded = (t > 0) & (t < num_levels - 1)
    g = _per_sample(grad_nll, a)
    inverse_scale = torch.exp(-_spread(log_scale, mean, target))
    grad_mean = _masked(g * inverse_scale * (upper - lower), target, mask)
    from_width = torch.where(width < _LEAST_WIDTH, 1.0, width / torch.expm1(width))
    from_width = torch.where(bounded, from_width, 0.0)
    grad_log_scale = _masked(g * (a * upper - b * lower + from_width), target, mask)
    return _needed(grad_mean, mean, need_mean), _gathered(grad_log_scale, log_scale, mean, need_log_scale)


def multinomial_nll(logits: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-sum_v counts_v log softmax(logits)_v; and, for the backward, the logits' logsumexp and the counts' sum."""
    lg, c = _as_samples(logits, counts), _as_data(counts, compute_dtype(logits), whole_numbers=True)
    largest = lg.amax(dim=2, keepdim=True)
    shifted = lg - largest
    log_sum = torch.log(sum_in_order(torch.exp(shifted), dim=2))
    total = sum_in_order(c, dim=1).expand_as(log_sum)
    picked = torch.where(c == 0, 0.0, c * shifted)  # so that a zero count ignores a logit of -inf
    nll = total * log_sum - sum_in_order(picked, dim=2)
    shape = batch_shape(logits, counts)
    return nll.reshape(shape), (largest.squeeze(2) + log_sum).reshape(shape), total.clone().reshape(shape)


def multinomial_nll_backward(
    grad_nll: Tensor, logits: Tensor, counts: Tensor, logsumexp: Tensor, total: Tensor
) -> Tensor:
    """Chain rule: dnll/dlogits = total softmax(logits) - counts."""
    lg, c = _as_samples(logits, counts), _as_data(counts, compute_dtype(logits), whole_numbers=True)
    softmax = torch.exp(lg - _per_sample(logsumexp, lg))
    return _needed(_per_sample(grad_nll, lg) * (_per_sample(total, lg) * softmax - c), logits, True)


def multinomial_nll_formula(
    grad_nll: Tensor, logits: Tensor, counts: Tensor, logsumexp: Tensor, total: Tensor
) -> Tensor:
    """The backward as a function of the logits alone, for double backward: the kept logsumexp is computed again."""
    return multinomial_nll_backward(grad_nll, logits, counts, torch.logsumexp(logits, dim=-1), total)


def multinomial_nll_csr(
    logits: Tensor, crow_indices: Tensor, col_indices: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As ``multinomial_nll``, of counts in compressed rows."""
    return multinomial_nll(logits, _dense(logits, crow_indices, col_indices, values))


def multinomial_nll_csr_backward(
    grad_nll: Tensor,
    logits: Tensor,
    crow_indices: Tensor,
    col_indices: Tensor,
    values: Tensor,
    logsumexp: Tensor,
    total: Tensor,
) -> Tensor:
    """As ``multinomial_nll_backward``, of counts in compressed rows."""
    counts = _dense(logits, crow_indices, col_indices, values)
    return multinomial_nll_backward(grad_nll, logits, counts, logsumexp, total)


def multinomial_nll_csr_formula(
    grad_nll: Tensor,
    logits: Tensor,
    crow_indices: Tensor,
    col_indices: Tensor,
    values: Tensor,
    logsumexp: Tensor,
    total: Tensor,
) -> Tensor:
    """As ``multinomial_nll_formula``, of counts in compressed rows."""
    counts = _dense(logits, crow_indices, col_indices, values)
    return multinomial_nll_formula(grad_nll, logits, counts, logsumexp, total)


def _dense(logits: Tensor, crow_indices: Tensor, col_indices: Tensor, values: Tensor) -> Tensor:
    rows = crow_indices.shape[0] - 1
    row_of_each = torch.repeat_interleave(
        torch.arange(rows, device=values.device), crow_indices.diff().long(), output_size=values.shape[0]
    )
    dense = values.new_zeros(rows, logits.shape[-1])
    return dense.index_put((row_of_each, col_indices.long()), values, accumulate=True)


def _as_samples(output: Tensor, target: Tensor) -> Tensor:
    """[B, ...] or [K, B, ...] -> [K, B, D], K = 1 without samples, in the dtype to compute in."""
    samples = output.shape[0] if output.dim() > target.dim() else 1
    return output.reshape(samples, target.shape[0], math.prod(target.shape[1:])).to(compute_dtype(output))


def _as_data(target: Tensor, dtype: torch.dtype, *, whole_numbers: bool = False) -> Tensor:
    """[B, ...] -> [B, D]; uint8 is a brightness of 0 to 255, except for likelihoods of integers."""
    data = target.reshape(target.shape[0], math.prod(target.shape[1:])).to(dtype)
    return data / 255 if target.dtype == torch.uint8 and not whole_numbers else data


def _spread(parameter: Tensor, output: Tensor, target: Tensor) -> Tensor:
    """One number, one a dimension, or one an element of the output, so that it broadcasts against [K, B, D]."""
    parameter = parameter.to(compute_dtype(output))
    if parameter.numel() == 1:
        return parameter.reshape(1, 1, 1)
    if parameter.shape == output.shape:
        return _as_samples(parameter, target)
    return parameter.reshape(1, 1, math.prod(target.shape[1:]))


def _gathered(gradient: Tensor, parameter: Tensor, output: Tensor, need: bool) -> Tensor:
    """The gradient [K, B, D] of a broadcast parameter, summed in order over the broadcast dimensions."""
    if parameter.shape != output.shape:
        gradient = sum_in_order(gradient.flatten(0, 1), dim=0)
        if parameter.numel() == 1:
            gradient = sum_in_order(gradient, dim=0)
    return _needed(gradient, parameter, need)


def _cell(mean: Tensor, log_scale: Tensor, target: Tensor, num_levels: int) -> tuple[Tensor, ...]:
    """Upper edge, lower edge and width of the level's cell about x = 2 t / (L - 1) - 1, over the scale; t itself."""
    m, t = _as_samples(mean, target), _as_data(target, compute_dtype(mean), whole_numbers=True)
    inverse_scale = torch.exp(-_spread(log_scale, mean, target))
    half = 1 / (num_levels - 1)
    x = 2 * half * t - 1
    return (x + half - m) * inverse_scale, (x - half - m) * inverse_scale, 2 * half * inverse_scale, t


def _softplus(x: Tensor) -> Tensor:
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def _sigmoid(x: Tensor) -> Tensor:
    """The sigmoid; the last bit of torch.sigmoid on the CPU depends on an element's position in the tensor."""
    positive = x >= 0
    e = torch.exp(torch.where(positive, -x, x))
    return torch.where(positive, 1.0, e) / (1 + e)


def _log_one_minus_exp_minus(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0, to the last bits at both ends."""
    return torch.where(x < math.log(2), torch.log(-torch.expm1(-x)), torch.log1p(-torch.exp(-x)))


def _masked(terms: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    return terms if mask is None else torch.where(mask.reshape(terms.shape[1:]), terms, 0.0)


def _sum_examples(terms: Tensor, output: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    return sum_in_order(_masked(terms, target, mask), dim=2).reshape(batch_shape(output, target))


def batch_shape(output: Tensor, target: Tensor) -> torch.Size:
    """[B] or [K, B]"""
    return output.shape[:2] if output.dim() > target.dim() else output.shape[:1]


def _per_sample(per_example: Tensor, terms: Tensor) -> Tensor:
    """[B] or [K, B] -> [K, B, 1]"""
    return per_example.to(terms.dtype).reshape(terms.shape[0], terms.shape[1], 1)

"""-log p(x|z) of pixels with discrete levels under discretised logistics, in one pass over the decoder's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_levels, check_mask, check_output, check_spread, promoted_parameter
from fastvae.ops._library import call, define, define_backward, register_autograd, variation
from fastvae.ops._transforms import RowDims


def _fake(mean: Tensor, log_scale: Tensor, target: Tensor, mask: Tensor | None, num_levels: int) -> Tensor:
    return mean.new_empty(reference.batch_shape(mean, target), dtype=reference.compute_dtype(mean))


def _rows(args: tuple[Any, ...]) -> RowDims:
    mean, log_scale, target = args[:3]
    dim = mean.dim() - target.dim()
    arguments = {0: dim, 2: 0, 3: 0}
    if log_scale.shape == mean.shape:
        arguments[1] = dim
    return RowDims(arguments=arguments, outputs=(dim,))


_forward = define(
    "discretized_logistic_nll(Tensor mean, Tensor log_scale, Tensor target, Tensor? mask, int num_levels) -> Tensor",
    reference.discretized_logistic_nll,
    _fake,
)
_backward = define_backward(
    "discretized_logistic_nll_backward(Tensor grad_nll, Tensor mean, Tensor log_scale, Tensor target, Tensor? mask, "
    "int num_levels, bool need_mean, bool need_log_scale) -> (Tensor grad_mean, Tensor grad_log_scale)",
    reference.discretized_logistic_nll_backward,
    "mean",
    "log_scale",
)
_function = register_autograd(
    _forward, _backward, reference.discretized_logistic_nll_backward, differentiable=(0, 1), find_rows=_rows
)


def discretized_logistic_nll(
    mean: Tensor, log_scale: Tensor, target: Tensor, mask: Tensor | None = None, *, num_levels: int = 256
) -> Tensor:
    """Negative log probability of discrete levels under independent logistics, summed over each example.

    Level t of L lies at x = 2 t / (L - 1) - 1 in [-1, 1] and has the logistic's probability between x - 1 / (L - 1) and
    x + 1 / (L - 1); the outermost levels have the tails too (Kingma et al. 2016, arXiv:1606.04934, appendix; Salimans
    et al. 2017, arXiv:1701.05517, equation 2). The mass is computed as sigmoid(a) sigmoid(-b) (1 - exp(b - a)), a and b
    the cell's edges in units of the scale: exact where the difference of sigmoids cancels. Computed in float32 (float64
    for float64); nothing but the input is kept for the backward. Finite for log_scale in -80 .. 80.

    Args:
        mean: ``[B, ...]``, or ``[K, B, ...]`` of K importance samples; float32, bfloat16, float16 or float64.
        log_scale: Log of the logistic's scale: one number, one for each dimension (the shape of an example), or mean's
            shape; mean's dtype or float32.
        target: ``[B, ...]`` levels 0 .. num_levels - 1, as uint8, as other integers or as floats. The
            gradient by a float level is that of its cell's place.
        mask: ``[B, ...]``, True (or not 0) where a pixel counts. Masked elements are ignored, even NaN.
        num_levels: L, at least 2.

    Returns:
        ``[B]`` or ``[K, B]`` nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or fewer than two levels.
    """
    mean, log_scale = promoted_parameter(mean, log_scale)
    check_output("discretized_logistic_nll", "mean", mean, "target", target)
    check_spread("discretized_logistic_nll", "log_scale", log_scale, "mean", mean, target)
    check_levels("discretized_logistic_nll", num_levels)
    mask = check_mask("discretized_logistic_nll", mask, target)
    change = variation(target)
    if change is not None:  # level t lies at 2 t / (L - 1) - 1, and the mass of its cell depends on that place - mean
        target, mean = target.detach(), mean - (change * (2 / (num_levels - 1))).to(mean.dtype)
    target = target if target.dtype in (mean.dtype, torch.uint8) else target.float()
    needs_grad = mean.requires_grad or log_scale.requires_grad
    nll: Tensor = call(_forward, _function, (mean, log_scale, target, mask, num_levels), needs_grad)
    return nll

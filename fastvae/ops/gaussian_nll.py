"""-log p(x|z) of independent Gaussian values in one pass over the decoder's output."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_floating, check_mask, check_output, check_spread, promoted_parameter
from fastvae.ops._library import call, define, define_backward, register_autograd, variation
from fastvae.ops._transforms import RowDims


def _fake(mean: Tensor, target: Tensor, logvar: Tensor, mask: Tensor | None) -> Tensor:
    return mean.new_empty(reference.batch_shape(mean, target), dtype=reference.compute_dtype(mean))


def _rows(args: tuple[Any, ...]) -> RowDims:
    mean, target, logvar = args[:3]
    dim = mean.dim() - target.dim()
    arguments = {0: dim, 1: 0, 3: 0}
    if logvar.shape == mean.shape:
        arguments[2] = dim
    return RowDims(arguments=arguments, outputs=(dim,))


_forward = define(
    "gaussian_nll(Tensor mean, Tensor target, Tensor logvar, Tensor? mask) -> Tensor", reference.gaussian_nll, _fake
)
_backward = define_backward(
    "gaussian_nll_backward(Tensor grad_nll, Tensor mean, Tensor target, Tensor logvar, Tensor? mask, bool need_mean, "
    "bool need_logvar) -> (Tensor grad_mean, Tensor grad_logvar)",
    reference.gaussian_nll_backward,
    "mean",
    "logvar",
)
_function = register_autograd(
    _forward, _backward, reference.gaussian_nll_backward, differentiable=(0, 2), find_rows=_rows
)


def gaussian_nll(mean: Tensor, target: Tensor, logvar: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log density of values under independent Gaussians, summed over each example.

    nll = sum_d (log(2 pi) + logvar_d + (target_d - mean_d)**2 exp(-logvar_d)) / 2
    (Kingma & Welling 2014, arXiv:1312.6114, appendix C.2), computed in float32 (float64 for float64). Nothing but the
    input is kept for the backward. logvar is not clamped: the caller may apply a lower bound.

    Args:
        mean: ``[B, ...]``, or ``[K, B, ...]`` of K importance samples; float32, bfloat16, float16 or float64.
        target: ``[B, ...]`` floating.
        logvar: Log variance: one number, one for each dimension (the shape of an example), or mean's shape; mean's
            dtype or float32.
        mask: ``[B, ...]``, True (or not 0) where a value counts. Masked elements are ignored, even NaN.

    Returns:
        ``[B]`` or ``[K, B]`` nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device.
    """
    mean, logvar = promoted_parameter(mean, logvar)
    check_output("gaussian_nll", "mean", mean, "target", target)
    check_floating("gaussian_nll", "target", target)
    check_spread("gaussian_nll", "logvar", logvar, "mean", mean, target)
    mask = check_mask("gaussian_nll", mask, target)
    change = variation(target)
    if change is not None:  # the density depends on target - mean
        target, mean = target.detach(), mean - change.to(mean.dtype)
    target = target if target.dtype == mean.dtype else target.float()
    needs_grad = mean.requires_grad or logvar.requires_grad
    nll: Tensor = call(_forward, _function, (mean, target, logvar, mask), needs_grad)
    return nll

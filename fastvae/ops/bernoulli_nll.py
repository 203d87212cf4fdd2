"""-log p(x|z) of independent Bernoulli pixels, from logits, in one pass over the decoder's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_mask, check_output
from fastvae.ops._library import call, define, define_backward, is_transformed, register_autograd, variation
from fastvae.ops._transforms import RowDims


def _fake(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    return logits.new_empty(reference.batch_shape(logits, target), dtype=reference.compute_dtype(logits))


def _fake_both(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return _fake(logits, target, None), logits.new_empty(logits.shape)


def _rows(args: tuple[Any, ...]) -> RowDims:
    logits, target = args[:2]
    dim = logits.dim() - target.dim()
    return RowDims(arguments={0: dim, 1: 0, 2: 0}, outputs=(dim,))


_forward = define("bernoulli_nll(Tensor logits, Tensor target, Tensor? mask) -> Tensor", reference.bernoulli_nll, _fake)
_backward = define_backward(
    "bernoulli_nll_backward(Tensor grad_nll, Tensor logits, Tensor target, Tensor? mask) -> Tensor",
    reference.bernoulli_nll_backward,
    "logits",
)
_both = define(
    "bernoulli_nll_and_gradient(Tensor logits, Tensor target) -> (Tensor, Tensor)",
    reference.bernoulli_nll_and_gradient,
    _fake_both,
)
_function = register_autograd(
    _forward, _backward, reference.bernoulli_nll_backward, differentiable=(0,), find_rows=_rows
)


class _GradientInForward(torch.autograd.Function):
    """The same function; the forward also computes the gradient from its exponentials; the backward is a product."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        nll: Tensor
        nll, ctx.gradient = _both(logits, target)
        ctx.save_for_backward(logits, target)
        return nll

    @staticmethod
    def backward(ctx: Any, grad_nll: Tensor) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():  # called again, or for a second derivative
            logits, target = ctx.saved_tensors
            return _backward(grad_nll, logits, target, None), None
        for _ in range(gradient.dim() - grad_nll.dim()):
            grad_nll = grad_nll.unsqueeze(-1)
        return gradient.mul_(grad_nll), None


def _pays_in_forward(logits: Tensor, mask: Tensor | None) -> bool:
    """Whether to compute the gradient in the forward: on a CPU exponentials take most of the time, elsewhere memory"""
    return (
        mask is None
        and logits.requires_grad
        and torch.is_grad_enabled()
        and logits.dtype in (torch.float32, torch.float64)
        and logits.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not is_transformed()
    )


def bernoulli_nll(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log likelihood of pixels under independent Bernoulli distributions, summed over each example.

    nll = sum_d max(l_d, 0) - l_d t_d + log(1 + exp(-|l_d|)): the cross-entropy of t and sigmoid(l), with no
    probability rounded to 0 or 1 (Kingma & Welling 2014, arXiv:1312.6114, appendix C.1). It and its gradient
    sigmoid(l) - t are computed in float32 (float64 for float64). Nothing but the input is kept for the backward, except
    on the CPU, where float32 and float64 without a mask keep the gradient, which the forward computes.

    Args:
        logits: ``[B, ...]``, or ``[K, B, ...]`` of K importance samples; float32, bfloat16, float16 or float64.
        target: ``[B, ...]`` of floats in [0, 1] (the expectation over such pixels), of bool, or of uint8, which counts
            as value / 255.
        mask: ``[B, ...]``, True (or not 0) where a pixel counts. Masked elements are ignored, even NaN.

    Returns:
        ``[B]`` or ``[K, B]`` nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device.
    """
    check_output("bernoulli_nll", "logits", logits, "target", target)
    mask = check_mask("bernoulli_nll", mask, target)
    if target.dtype not in (logits.dtype, torch.bool, torch.uint8, torch.float32):
        if not target.dtype.is_floating_point:
            raise TypeError(
                f"bernoulli_nll: target must be floating, bool, or uint8 (0 to 255), got {target.dtype}; "
                "convert 0 and 1 with target.bool()"
            )
        target = target.float()
    change = variation(target)
    if change is not None:
        return _nll(logits, target.detach(), mask) + _by_target(logits, change, mask)
    return _nll(logits, target, mask)


def _by_target(logits: Tensor, change: Tensor, mask: Tensor | None) -> Tensor:
    """-sum_d l_d change_d: the likelihood is linear in the target, with the slope -l."""
    terms = -logits.to(reference.compute_dtype(logits)) * change
    terms = terms if mask is None else torch.where(mask, terms, 0.0)
    return terms.flatten(logits.dim() - change.dim() + 1).sum(-1) if change.dim() > 1 else terms


def _nll(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    if _pays_in_forward(logits, mask):
        gradient_in_forward: Tensor = _GradientInForward.apply(logits, target)
        return gradient_in_forward
    nll: Tensor = call(_forward, _function, (logits, target, mask), logits.requires_grad)
    return nll

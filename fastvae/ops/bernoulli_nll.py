"""-log p(x|z) of independent Bernoulli pixels, from logits, in one pass over the decoder's output."""

from __future__ import annotations

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_mask, check_output
from fastvae.ops._library import call, define, register_autograd


def _fake(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    return logits.new_empty(reference.batch_shape(logits, target), dtype=reference.compute_dtype(logits))


def _fake_backward(grad_nll: Tensor, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    return logits.new_empty(logits.shape)


_forward = define("bernoulli_nll(Tensor logits, Tensor target, Tensor? mask) -> Tensor", reference.bernoulli_nll, _fake)
_backward = define(
    "bernoulli_nll_backward(Tensor grad_nll, Tensor logits, Tensor target, Tensor? mask) -> Tensor",
    reference.bernoulli_nll_backward,
    _fake_backward,
)
_function = register_autograd(_forward, _backward, reference.bernoulli_nll_backward, differentiable=(0,))


def bernoulli_nll(logits: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Negative log likelihood of pixels under independent Bernoulli distributions, summed over each example.

    nll = sum_d max(l_d, 0) - l_d t_d + log(1 + exp(-|l_d|)): the cross-entropy of t and sigmoid(l), with no
    probability rounded to 0 or 1 (Kingma & Welling 2014, arXiv:1312.6114, appendix C.1). It and its gradient
    sigmoid(l) - t are computed in float32 (float64 for float64), and nothing but the input is kept for the backward.

    Args:
        logits: ``[B, ...]``, or ``[K, B, ...]`` of K importance samples; float32, bfloat16, float16 or float64.
        target: ``[B, ...]`` of floats in [0, 1] (the expectation over such pixels), of bool, or of uint8, which counts
            as value / 255. It gets no gradient.
        mask: ``[B, ...]``, True (or not 0) where a pixel counts. Elsewhere even a NaN counts nothing.

    Returns:
        ``[B]`` or ``[K, B]`` nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or a target that requires a gradient.
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
    nll: Tensor = call(_forward, _function, (logits, target, mask), logits.requires_grad)
    return nll

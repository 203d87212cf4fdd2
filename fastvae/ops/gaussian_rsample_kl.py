"""Draw z = mu + exp(logvar/2) * noise and reduce KL(q(z|x) || N(0, I)) in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_gaussian
from fastvae.ops._library import below_autograd, call, define, differentiable, set_autograd


def _fake(mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape[0], dtype=reference.compute_dtype(mu))


def _fake_backward(
    grad_z: Tensor | None,
    grad_kl: Tensor | None,
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    stream: int,
    need_mu: bool,
    need_logvar: bool,
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape if need_mu else 0), mu.new_empty(mu.shape if need_logvar else 0)


_forward = define(
    "gaussian_rsample_kl(Tensor mu, Tensor logvar, Tensor key, int stream) -> (Tensor z, Tensor kl)",
    reference.gaussian_rsample_kl,
    _fake,
)
_backward = define(
    "gaussian_rsample_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar, Tensor key, int stream, "
    "bool need_mu, bool need_logvar) -> (Tensor grad_mu, Tensor grad_logvar)",
    reference.gaussian_rsample_kl_backward,
    _fake_backward,
)
_DifferentiableBackward = differentiable(_backward, reference.gaussian_rsample_kl_backward)


class _GaussianRsampleKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> Any:
        ctx.save_for_backward(mu, logvar, key)  # no noise: the backward draws it again
        ctx.stream = stream
        ctx.set_materialize_grads(False)
        with below_autograd():
            return _forward(mu, logvar, key, stream)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> Any:
        mu, logvar, key = ctx.saved_tensors
        need_mu, need_logvar = ctx.needs_input_grad[:2]
        args = (grad_z, grad_kl, mu, logvar, key, ctx.stream, need_mu, need_logvar)
        grad_mu, grad_logvar = call(_backward, _DifferentiableBackward, args, needs_grad=True)
        return grad_mu if need_mu else None, grad_logvar if need_logvar else None, None, None


set_autograd(_forward, _GaussianRsampleKL)


def gaussian_rsample_kl(mu: Tensor, logvar: Tensor, key: Tensor, *, stream: int = 0) -> tuple[Tensor, Tensor]:
    """Sample a diagonal Gaussian by reparameterisation and compute its KL divergence from N(0, I), in one pass.

    z = mu + exp(logvar/2) * noise,  KL = sum_d (mu_d**2 + exp(logvar_d) - 1 - logvar_d) / 2
    (Kingma & Welling 2014, arXiv:1312.6114, equation 10 and appendix B).

    The noise is ``philox_normal(key, B, D, stream=stream)`` (in float64 for float64 input): the same whatever the
    batch split, backend, device and number of threads. Nothing but mu and logvar is kept for the backward pass.
    Sums run in float32, and KL is never negative. logvar is not clamped: above 88 (in float32) KL and its gradient
    are infinite, above 177 z is too. NaN propagates, within its own row.

    Args:
        mu: ``[B, ...]`` means of q(z|x); float32, bfloat16, float16 or float64, any strides.
        logvar: As mu: log variances of q(z|x).
        key: int64 ``[3]`` from ``noise_key``, on mu's device.
        stream: What the noise is for, from ``fastvae.ops.stream``.

    Returns:
        z, as mu; KL ``[B]`` in nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or a number out of its range.
    """
    check_gaussian("gaussian_rsample_kl", mu, logvar, key, stream)
    needs_grad = mu.requires_grad or logvar.requires_grad
    z, kl = call(_forward, _GaussianRsampleKL, (mu, logvar, key, stream), needs_grad)
    return z, kl

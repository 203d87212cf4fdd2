"""Draw z = mu + exp(logvar/2) * noise and reduce KL(q(z|x) || p(z)) in one pass.

There are two operators: ``gaussian_rsample_kl`` for the common case, p(z) = N(0, I) and a KL per example, and
``gaussian_rsample_kl_full`` for a learned prior and other reductions.
"""

from __future__ import annotations

from typing import Any, Literal, overload

from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_choice, check_gaussian, check_prior, promoted
from fastvae.ops._library import call, define, define_backward, register_autograd
from fastvae.ops._transforms import RowDims

Reduction = Literal["example", "dimension", "none", "both"]
_REDUCTIONS = {"none": 0, "example": 1, "dimension": 2, "both": 3}  # the operator's number: 1 and 2 are bits


def _fake(mu: Tensor, logvar: Tensor, key: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape[0], dtype=reference.compute_dtype(mu))


def _fake_full(
    mu: Tensor,
    logvar: Tensor,
    prior_mu: Tensor | None,
    prior_logvar: Tensor | None,
    key: Tensor,
    stream: int,
    reduction: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = reference.compute_dtype(mu)
    columns = 1
    for size in mu.shape[1:]:
        columns = columns * size
    kl = mu.new_empty({0: mu.shape, 1: mu.shape[:1], 2: (0,), 3: mu.shape[:1]}[reduction], dtype=dtype)
    return mu.new_empty(mu.shape), kl, mu.new_empty(columns if reduction & 2 else 0, dtype=dtype)


def _rows(args: tuple[Any, ...]) -> RowDims:
    return RowDims(arguments={0: 0, 1: 0}, outputs=(0, 0))


def _rows_full(args: tuple[Any, ...]) -> RowDims | None:
    if args[6] & 2:
        return None  # a sum over the rows of one example
    return RowDims(arguments={0: 0, 1: 0, 2: 0, 3: 0}, outputs=(0, 0, 0))


_forward = define(
    "gaussian_rsample_kl(Tensor mu, Tensor logvar, Tensor key, int stream) -> (Tensor z, Tensor kl)",
    reference.gaussian_rsample_kl,
    _fake,
)
_backward = define_backward(
    "gaussian_rsample_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar, Tensor key, int stream, "
    "bool need_mu, bool need_logvar) -> (Tensor grad_mu, Tensor grad_logvar)",
    reference.gaussian_rsample_kl_backward,
    "mu",
    "logvar",
)
_function = register_autograd(
    _forward, _backward, reference.gaussian_rsample_kl_backward, differentiable=(0, 1), find_rows=_rows
)

_full = define(
    "gaussian_rsample_kl_full(Tensor mu, Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar, Tensor key, "
    "int stream, int reduction) -> (Tensor z, Tensor kl, Tensor kl_per_dimension)",
    reference.gaussian_rsample_kl_full,
    _fake_full,
)
_full_backward = define_backward(
    "gaussian_rsample_kl_full_backward(Tensor? grad_z, Tensor? grad_kl, Tensor? grad_kl_per_dimension, Tensor mu, "
    "Tensor logvar, Tensor? prior_mu, Tensor? prior_logvar, Tensor key, int stream, int reduction, bool need_mu, "
    "bool need_logvar, bool need_prior_mu, bool need_prior_logvar) "
    "-> (Tensor grad_mu, Tensor grad_logvar, Tensor grad_prior_mu, Tensor grad_prior_logvar)",
    reference.gaussian_rsample_kl_full_backward,
    "mu",
    "logvar",
    "prior_mu",
    "prior_logvar",
)
_full_function = register_autograd(
    _full,
    _full_backward,
    reference.gaussian_rsample_kl_full_backward,
    differentiable=(0, 1, 2, 3),
    find_rows=_rows_full,
)


@overload
def gaussian_rsample_kl(
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    stream: int = 0,
    reduction: Literal["example", "dimension", "none"] = "example",
) -> tuple[Tensor, Tensor]: ...
@overload
def gaussian_rsample_kl(
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    stream: int = 0,
    reduction: Literal["both"],
) -> tuple[Tensor, Tensor, Tensor]: ...
def gaussian_rsample_kl(
    mu: Tensor,
    logvar: Tensor,
    key: Tensor,
    prior_mu: Tensor | None = None,
    prior_logvar: Tensor | None = None,
    *,
    stream: int = 0,
    reduction: Reduction = "example",
) -> tuple[Tensor, ...]:
    """Sample a diagonal Gaussian by reparameterisation and compute its KL divergence from the prior, in one pass.

    z = mu + exp(logvar/2) * noise,  KL = sum_d (mu_d**2 + exp(logvar_d) - 1 - logvar_d) / 2
    (Kingma & Welling 2014, arXiv:1312.6114, equation 10 and appendix B) against N(0, I); against another prior,
    KL = sum_d ((mu_d - prior_mu_d)**2 exp(-prior_logvar_d) + exp(l_d) - 1 - l_d) / 2 with l = logvar - prior_logvar.

    The noise is ``philox_normal(key, B, D, stream=stream)`` (in float64 for float64 input): the same whatever the
    batch split, backend, device and number of threads. Nothing but the input is kept for the backward pass.
    Sums run in float32, and KL is never negative. logvar is not clamped: above 88 (in float32) KL and its gradient
    are infinite, above 177 z is too. NaN propagates, within its own row. Under autocast mixed dtypes are promoted.

    ``torch.func.vmap`` over N examples of B rows is a call with N * B rows: example i draws the noise of the rows from
    first_row + i * B on, so that a mapped function of one row, ``gaussian_rsample_kl(mu[None], logvar[None], key)``,
    equals the call on the whole batch bit for bit. Keys that are mapped too are used as they are.

    Args:
        mu: ``[B, ...]`` means of q(z|x); float32, bfloat16, float16 or float64, any strides.
        logvar: As mu: log variances of q(z|x).
        key: int64 ``[3]`` from ``noise_key``, on mu's device.
        prior_mu: As mu, or without its batch dimension: the prior's means; None is 0.
        prior_logvar: As prior_mu: the prior's log variances; None is 0.
        stream: What the noise is for, from ``fastvae.ops.stream``.
        reduction: How the KL is summed. "example": over the dimensions, to ``[B]``; "dimension": over the batch, to
            ``[D]``; "both": each of the two, from one pass; "none": not at all.

    Returns:
        z, as mu; KL ``[B]``, ``[D]`` or of mu's shape, in nats, float32 (float64 for float64). With "both" three
        tensors: z, KL ``[B]``, KL ``[D]``.

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or a number out of its range.
    """
    mu, logvar, prior_mu, prior_logvar = promoted(mu, logvar, prior_mu, prior_logvar)
    check_gaussian("gaussian_rsample_kl", mu, logvar, key, stream)
    needs_grad = mu.requires_grad or logvar.requires_grad
    if prior_mu is None and prior_logvar is None and reduction == "example":
        z, kl = call(_forward, _function, (mu, logvar, key, stream), needs_grad)
        return z, kl
    check_choice("gaussian_rsample_kl", "reduction", reduction, _REDUCTIONS)
    prior_mu, prior_logvar = _prior(mu, prior_mu, prior_logvar)
    needs_grad |= prior_mu is not None and prior_mu.requires_grad
    needs_grad |= prior_logvar is not None and prior_logvar.requires_grad
    args = (mu, logvar, prior_mu, prior_logvar, key, stream, _REDUCTIONS[reduction])
    z, kl, kl_per_dimension = call(_full, _full_function, args, needs_grad)
    if reduction == "both":
        return z, kl, kl_per_dimension
    return z, kl_per_dimension if reduction == "dimension" else kl


def _prior(
    mu: Tensor, prior_mu: Tensor | None, prior_logvar: Tensor | None
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Both of the prior's parameters in mu's shape, without a copy, or neither."""
    if prior_mu is None and prior_logvar is None:
        return None, None
    given = {"prior_mu": prior_mu, "prior_logvar": prior_logvar}
    for name, parameter in given.items():
        if parameter is not None:
            check_prior("gaussian_rsample_kl", name, parameter, mu)
    zero = mu.new_zeros(())
    return tuple((zero if p is None else p).expand(mu.shape) for p in given.values())  # type: ignore[return-value]

"""Draw K samples of q(z|x) and compute each one's log q(z|x) - log p(z) in one pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_gaussian, check_samples
from fastvae.ops._library import call, define, define_backward, register_autograd
from fastvae.ops._transforms import RowDims


def _fake(
    mu: Tensor, logvar: Tensor, key: Tensor, num_samples: int, stream: int, first_sample: int
) -> tuple[Tensor, Tensor]:
    log_ratio = mu.new_empty((num_samples, mu.shape[0]), dtype=reference.compute_dtype(mu))
    return mu.new_empty((num_samples, *mu.shape)), log_ratio


def _rows(args: tuple[Any, ...]) -> RowDims:
    return RowDims(arguments={0: 0, 1: 0}, outputs=(1, 1))


_forward = define(
    "gaussian_rsample_log_ratio(Tensor mu, Tensor logvar, Tensor key, SymInt num_samples, int stream, "
    "SymInt first_sample) -> (Tensor z, Tensor log_ratio)",
    reference.gaussian_rsample_log_ratio,
    _fake,
)
_backward = define_backward(
    "gaussian_rsample_log_ratio_backward(Tensor? grad_z, Tensor? grad_log_ratio, Tensor mu, Tensor logvar, Tensor key, "
    "SymInt num_samples, int stream, SymInt first_sample, bool need_mu, bool need_logvar) "
    "-> (Tensor grad_mu, Tensor grad_logvar)",
    reference.gaussian_rsample_log_ratio_backward,
    "mu",
    "logvar",
)
_function = register_autograd(
    _forward, _backward, reference.gaussian_rsample_log_ratio_backward, differentiable=(0, 1), find_rows=_rows
)


def gaussian_rsample_log_ratio(
    mu: Tensor, logvar: Tensor, key: Tensor, num_samples: int, *, stream: int = 0, first_sample: int = 0
) -> tuple[Tensor, Tensor]:
    """Draw K samples of a diagonal Gaussian by reparameterisation, and log q(z|x) - log p(z) of each, p(z) = N(0, I).

    z_k = mu + exp(logvar/2) * noise_k,  log q - log p = sum_d (z_kd**2 - noise_kd**2 - logvar_d) / 2
    (the importance weights' half of Burda et al. 2016, arXiv:1509.00519, equation 8). Gradients are pathwise:
    through z, mu and logvar.

    Sample k draws from the stream's sample first_sample + k, so that a draw in chunks equals the whole draw bit for
    bit, and sample 0 has the noise of ``gaussian_rsample_kl``. Precision, huge logvar and NaN are as there.

    Args:
        mu: ``[B, ...]`` means of q(z|x); float32, bfloat16, float16 or float64, any strides.
        logvar: As mu: log variances of q(z|x).
        key: int64 ``[3]`` from ``noise_key``, on mu's device.
        num_samples: K; the stream's sample + first_sample + K may reach 65536.
        stream: What the noise is for, from ``fastvae.ops.stream``.
        first_sample: The first sample's index: where this chunk begins.

    Returns:
        z ``[K, B, ...]`` of mu's dtype; log q - log p ``[K, B]`` in nats, float32 (float64 for float64).

    Raises:
        TypeError: A wrong type or dtype. ValueError: A wrong shape or device, or a number out of its range.
    """
    check_gaussian("gaussian_rsample_log_ratio", mu, logvar, key, stream)
    check_samples("gaussian_rsample_log_ratio", num_samples, first_sample, stream)
    args = (mu, logvar, key, num_samples, stream, first_sample)
    z, log_ratio = call(_forward, _function, args, mu.requires_grad or logvar.requires_grad)
    return z, log_ratio

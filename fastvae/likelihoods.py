"""Likelihoods p(x|z): modules that turn a decoder's output into a distribution with a log probability per example.

A likelihood is called with the decoder's output and returns a bound record: ``log_prob(target)``, ``mean``, ``sample``.
Log probabilities are in nats per example, float32 at least under autocast too, summed over everything after the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae import ops

# Latents drawn from the prior take site 0 of the generation noise, pixels take site 1: never the same numbers.
PIXEL_SITE = 1


class BoundLikelihood(Protocol):
    """p(x|z) for given z: what `VAE.decode` returns."""

    @property
    def mean(self) -> Tensor:
        """Expected x, [B, ...] or [K, B, ...]."""
        ...

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log p(target|z) in nats per example: [B], or [K, B] where the output holds K samples."""
        ...

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One draw of x for each row of the output, by keyed noise."""
        ...


@dataclass(frozen=True)
class BoundBernoulli:
    """Independent pixels, each 1 with probability ``sigmoid(logits)``."""

    logits: Tensor  # [B, ...] or [K, B, ...]

    @property
    def mean(self) -> Tensor:
        """Probability of 1, the shape of the logits."""
        return torch.sigmoid(self.logits)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x log p + (1 - x) log(1 - p)`` summed over the event, from logits, so that no probability rounds to 0 or 1.

        Args:
            target: [B, ...] bool, 0/1, or a float in [0, 1], which counts as the expectation over such pixels.
            mask: [B, ...] 1 where a pixel counts, 0 where it does not.

        Returns:
            [B], or [K, B] where the logits hold K samples, in nats per example.
        """
        logits, target, mask = _aligned("Bernoulli", self.logits, target, mask)
        return -ops.bernoulli_nll(logits, target, mask)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Pixels 0 or 1 as floats, the shape of the logits; row i has the noise of row first_row + i."""
        logits = _at_least_float32(self.logits)
        uniform = ops.philox_uniform(noise_key, *_rows_columns(logits), stream=_pixel_stream(stream))
        return (uniform.view(logits.shape) < torch.sigmoid(logits)).to(logits.dtype)


@dataclass(frozen=True)
class BoundGaussian:
    """Independent values ``N(mean, exp(logvar))``."""

    mean: Tensor  # [B, ...] or [K, B, ...]
    logvar: Tensor  # [] or the event's shape: log variance

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density of ``target`` [B, ...], in nats per example: [B], or [K, B] where the mean holds K samples."""
        mean, target, mask = _aligned("Gaussian", self.mean, target, mask)
        return -ops.gaussian_nll(mean, target, self.logvar.flatten() if self.logvar.dim() else self.logvar, mask)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One draw for each row of the mean, its shape; row i has the noise of row first_row + i."""
        mean = _at_least_float32(self.mean)
        noise = ops.philox_normal(noise_key, *_rows_columns(mean), stream=_pixel_stream(stream)).view(mean.shape)
        return mean + torch.exp(0.5 * _at_least_float32(self.logvar)) * noise


class Bernoulli(nn.Module):
    """Binary pixels: the decoder's output is their logits. It has no parameters."""

    def forward(self, output: Tensor) -> BoundBernoulli:
        """The distribution whose logits are ``output``, [B, ...] or [K, B, ...]."""
        return BoundBernoulli(output)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """The logits of ``mean``, held inside (0.001, 0.999) as yburda/iwae does: what an output bias starts from."""
        return torch.logit(mean.clamp(1e-3, 1 - 1e-3))


class Gaussian(nn.Module):
    """Real values with a learned variance: the decoder's output is their mean.

    The log variance that counts is ``floor + softplus(raw)``. Without a floor the likelihood of a value that is
    reconstructed exactly grows without bound (on learned variances: Rybkin et al. 2021, arXiv 2006.13202). The floor
    is smooth, because under a clamp the gradient is exactly 0 and a variance that once fell below would stay there.

    Args:
        event_shape: the values' shape, where each has a variance of its own; None for one variance shared by all.
        logvar: log variance to start from, above the floor.
        logvar_floor: the log variance stays above this (equal to it once softplus rounds to 0).

    Raises:
        ValueError: the start is not above the floor.
    """

    def __init__(
        self, event_shape: int | Sequence[int] | None = None, *, logvar: float = 0.0, logvar_floor: float = -10.0
    ) -> None:
        super().__init__()
        if not logvar > logvar_floor:
            raise ValueError(
                f"Gaussian: logvar must be above logvar_floor, got {logvar} and {logvar_floor};"
                " start higher or lower the floor"
            )
        shape = () if event_shape is None else (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
        self.logvar_floor = logvar_floor
        above_floor = logvar - logvar_floor
        raw = above_floor + math.log(-math.expm1(-above_floor))  # the inverse of softplus
        self.raw_logvar = nn.Parameter(torch.full(shape, raw))  # [] or the event's shape

    @property
    def logvar(self) -> Tensor:
        """The log variance, above the floor: [] or the event's shape."""
        return self.logvar_floor + functional.softplus(self.raw_logvar)

    def forward(self, output: Tensor) -> BoundGaussian:
        """The distribution whose mean is ``output``, [B, ...] or [K, B, ...]."""
        return BoundGaussian(output, self.logvar)

    def output_for_mean(self, mean: Tensor) -> Tensor:
        """``mean`` itself: what an output bias starts from."""
        return mean


def _aligned(where: str, output: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Events flattened to P numbers: output [B, P] or [K, B, P], target and mask [B, P]."""
    batch, event = target.shape[0], math.prod(target.shape[1:])
    has_samples = output.dim() > 1 and output.shape[1] == batch and math.prod(output.shape[2:]) == event
    # With one example and one sample both readings fit; the target's own shape decides, then the plain one.
    if output.shape[1:] != target.shape and output.shape[:1] == (batch,) and math.prod(output.shape[1:]) == event:
        output = output.reshape(batch, event)
    elif has_samples:
        output = output.reshape(output.shape[0], batch, event)
    else:
        raise ValueError(
            f"{where}: the decoder's output must hold the target's {event} values for each of {batch} examples,"
            f" as [B, ...] or [K, B, ...], got {list(output.shape)} for a target of {list(target.shape)};"
            " set the decoder's output size"
        )
    mask = None if mask is None else mask.expand_as(target).reshape(batch, event)
    # Integers are 0 and 1 here; the operator itself would read uint8 as grey values.
    is_integer = not target.is_floating_point() and target.dtype != torch.bool
    return output, (target.float() if is_integer else target).reshape(batch, event), mask


def _rows_columns(output: Tensor) -> tuple[int, int]:
    return output.shape[0], math.prod(output.shape[1:])


def _pixel_stream(stream: int | None) -> int:
    return ops.stream(ops.Use.GENERATION, site=PIXEL_SITE) if stream is None else stream


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()

"""The diagonal Gaussian: what encoders give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from fastvae import ops
from fastvae.ops.reference import exp_minus_one_minus


@dataclass(eq=False)  # not frozen: Lightning Fabric's apply_to_collection sets the fields of a copy
class DiagonalGaussian:
    """``N(mu, diag(exp(logvar)))`` for each of B examples; everything after the batch dimension is one event.

    The posterior q(z|x) of a VAE (Kingma and Welling 2013, arXiv 1312.6114, equation 9). Densities and divergences
    are in nats per example, in float32 at least whatever the parameters' type, under autocast too.

    Raises:
        ValueError: mu and logvar differ in shape.
    """

    mu: Tensor  # [B, ...] mean
    logvar: Tensor  # [B, ...] log variance

    def __post_init__(self) -> None:
        # Frameworks that walk through records put shapes, types or None where the tensors were.
        tensors = isinstance(self.mu, Tensor) and isinstance(self.logvar, Tensor)
        if tensors and self.mu.shape != self.logvar.shape:
            raise ValueError(
                f"DiagonalGaussian: logvar must have mu's shape {list(self.mu.shape)}, got {list(self.logvar.shape)};"
                " expand a shared logvar with logvar.expand_as(mu)"
            )

    @property
    def stddev(self) -> Tensor:
        """Standard deviation ``exp(logvar / 2)``, [B, ...]."""
        return torch.exp(0.5 * self.logvar)

    def rsample_kl(self, noise_key: Tensor, *, stream: int = 0) -> tuple[Tensor, Tensor]:
        """One draw and its KL to N(0, I), by the fused operator (`fastvae.ops.gaussian_rsample_kl`).

        Args:
            noise_key: int64 [3], see `fastvae.noise_key`.
            stream: which noise of that key, see `fastvae.ops.stream`.

        Returns:
            z [B, ...] with a gradient path to mu and logvar, and the KL [B] in nats per example.
        """
        return ops.gaussian_rsample_kl(self.mu, self.logvar, noise_key, stream=stream)

    def rsample_kl_per_dimension(self, noise_key: Tensor, *, stream: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """As `rsample_kl`, and the KL of each latent dimension summed over the B examples, from the same pass.

        Returns:
            z [B, ...], the KL [B] and the KL [D], in nats.
        """
        return ops.gaussian_rsample_kl(self.mu, self.logvar, noise_key, stream=stream, reduction="both")

    def rsample_log_ratio(
        self, noise_key: Tensor, num_samples: int, *, stream: int = 0, first_sample: int = 0
    ) -> tuple[Tensor, Tensor]:
        """K draws and ``log q(z|x) - log p(z)`` of each, with p = N(0, I): what importance weights need.

        Args:
            noise_key: int64 [3], see `fastvae.noise_key`.
            num_samples: K.
            stream: which noise of that key, see `fastvae.ops.stream`.
            first_sample: index of the first draw, so that chunks of one large K continue each other bit for bit.

        Returns:
            z [K, B, ...] and the log ratio [K, B] in nats; its expectation is the KL.
        """
        return ops.gaussian_rsample_log_ratio(
            self.mu, self.logvar, noise_key, num_samples, stream=stream, first_sample=first_sample
        )

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of ``z`` [..., B, *event], summed over the event: [..., B] nats per example."""
        mu, logvar, z = (_at_least_float32(t) for t in (self.mu, self.logvar, z))
        per_element = (z - mu).square() * torch.exp(-logvar) + logvar + math.log(2 * math.pi)
        return -0.5 * _sum_trailing(per_element, self.mu.dim() - 1)

    def kl_divergence(self) -> Tensor:
        """KL to N(0, I) in closed form: [B] nats per example."""
        return _sum_trailing(self._kl_per_element(), self.mu.dim() - 1)

    def kl_per_dimension(self, prior: DiagonalGaussian | None = None) -> Tensor:
        """KL to ``prior`` (None: N(0, I)) of each latent dimension, summed over the B examples: [D] nats.

        D counts the elements of one latent: the dimensions of one of shape [C, H, W] are its flattened elements.
        """
        per_element = self._kl_per_element() if prior is None else _kl_of_elements(self, prior)
        return per_element.flatten(1).sum(0)

    def _kl_per_element(self) -> Tensor:
        return _kl_per_element(_at_least_float32(self.mu), _at_least_float32(self.logvar))


def _stack(posteriors: Sequence[DiagonalGaussian], *, collate_fn_map: Any = None) -> DiagonalGaussian:
    mu, logvar = (
        collate([getattr(posterior, name) for posterior in posteriors], collate_fn_map=collate_fn_map)
        for name in ("mu", "logvar")
    )
    return DiagonalGaussian(mu, logvar)


# So that torch.export, DDP, FSDP and a DataLoader find the tensors in it.
torch.export.register_dataclass(DiagonalGaussian, serialized_type_name="fastvae.DiagonalGaussian")
torch.serialization.add_safe_globals([DiagonalGaussian])  # torch.export.load reads known classes only
default_collate_fn_map[DiagonalGaussian] = _stack


def kl_divergence(posterior: DiagonalGaussian, prior: DiagonalGaussian) -> Tensor:
    """KL(posterior || prior) of two diagonal Gaussians in closed form: [B] nats per example.

    With l the difference of the log variances and m that of the means in units of the prior's standard deviation,
    each dimension gives ``(m^2 + expm1(l) - l) / 2``: the formula for N(0, I), moved and scaled.
    """
    return _sum_trailing(_kl_of_elements(posterior, prior), posterior.mu.dim() - 1)


def _kl_of_elements(posterior: DiagonalGaussian, prior: DiagonalGaussian) -> Tensor:
    prior_logvar = _at_least_float32(prior.logvar)
    mean_shift = (_at_least_float32(posterior.mu) - prior.mu) * torch.exp(-0.5 * prior_logvar)
    return _kl_per_element(mean_shift, _at_least_float32(posterior.logvar) - prior_logvar)


def _kl_per_element(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu.square() + exp_minus_one_minus(logvar))


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _sum_trailing(tensor: Tensor, num_dims: int) -> Tensor:
    # sum(dim=()) would sum everything, but an event without dimensions has nothing to sum.
    return tensor.sum(dim=tuple(range(-num_dims, 0))) if num_dims else tensor

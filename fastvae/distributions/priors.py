"""Priors p(z) as modules: the standard normal, a learned Gaussian, and the base class of a prior of one's own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions.gaussian import DiagonalGaussian, kl_divergence


class Prior(nn.Module, ABC):
    """A prior p(z) over latents of one shape.

    A subclass defines `log_prob` and `rsample`, and `kl` where the KL divergence has a closed form. Without one the
    rate of a single draw is ``log q(z|x) - log p(z)``, an unbiased estimate of the KL.

    Args:
        latent_shape: of one latent, such as 20 or (4, 8, 8).
    """

    latent_shape: tuple[int, ...] | None

    def __init__(self, latent_shape: int | tuple[int, ...] | None) -> None:
        super().__init__()
        self.latent_shape = as_shape(latent_shape)

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of latents [..., *latent_shape]: [...] nats."""

    @abstractmethod
    def rsample(self, num: int, noise_key: Tensor) -> Tensor:
        """Latents [num, *latent_shape], a function of the key (`fastvae.noise_key`) alone."""

    def kl(self, posterior: DiagonalGaussian) -> Tensor | None:
        """KL(posterior || p) in closed form, [B] nats; None where there is no closed form."""
        return None

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor | None:
        """The KL of each latent dimension, summed over the B examples, [D] nats; None where it is not a sum of them."""
        return None

    def rsample_rate(
        self,
        posterior: DiagonalGaussian,
        noise_key: Tensor,
        *,
        num_samples: int = 1,
        first_sample: int = 0,
        evaluation: bool = False,
        per_dimension: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draw from the posterior, and the rate of the draws.

        Args:
            posterior: q(z|x) of B examples.
            noise_key: int64 [3], see `fastvae.noise_key`.
            num_samples: K draws for each example.
            first_sample: index of the first draw.
            evaluation: draw from the noise of evaluation.
            per_dimension: also give the KL of each dimension; with K = 1 only.

        Returns:
            z [B, ...], the rate [B] and the KL [D] or None; with K > 1 z [K, B, ...] and the log ratios [K, B]. Nats.

        Raises:
            ValueError: a KL per dimension is asked for, which this prior does not have; or `log_prob` gives another
                shape than one number for each latent.
        """
        stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, evaluation=evaluation)
        z, log_ratio = posterior.rsample_log_ratio(noise_key, num_samples, stream=stream, first_sample=first_sample)
        if num_samples > 1:
            return z, log_ratio + self._log_standard_over_prior(z, log_ratio), None
        kl_per_dimension = self.kl_per_dimension(posterior) if per_dimension else None
        if per_dimension and kl_per_dimension is None:
            raise ValueError(f"{type(self).__name__} has no KL per dimension; use no free bits")
        z, log_ratio, rate = z[0], log_ratio[0], self.kl(posterior)
        if rate is None:
            rate = log_ratio + self._log_standard_over_prior(z, log_ratio)
        return z, rate, kl_per_dimension

    def _log_standard_over_prior(self, z: Tensor, like: Tensor) -> Tensor:
        """The log ratio of N(0, I) to this prior at each latent: the operator's own ratio is against N(0, I)."""
        log_prior = self.log_prob(z)
        if log_prior.shape != like.shape:
            raise ValueError(
                f"{type(self).__name__}.log_prob must give one number for each latent, {list(like.shape)} for z of"
                f" shape {list(z.shape)}, got {list(log_prior.shape)}; sum over the latent's dimensions"
            )
        z = z.flatten(like.dim()).to(like.dtype)
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1) - log_prior


class StandardNormal(Prior):
    """N(0, I), the prior of Kingma and Welling 2013 (arXiv 1312.6114): draw and KL are one fused operator.

    Args:
        latent_shape: of one latent; None where it is not known, and nothing is sampled.
    """

    def __init__(self, latent_shape: int | tuple[int, ...] | None = None) -> None:
        super().__init__(latent_shape)

    def log_prob(self, z: Tensor) -> Tensor:
        num_dims = 1 if self.latent_shape is None else len(self.latent_shape)
        z = z.flatten(z.dim() - num_dims)
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def rsample(self, num: int, noise_key: Tensor) -> Tensor:
        if self.latent_shape is None:
            raise ValueError(
                "StandardNormal.rsample: the latent's shape must be known, got None; build the model with"
                " VAE(..., latent_dim=D)"
            )
        return prior_noise(num, self.latent_shape, noise_key)

    def kl(self, posterior: DiagonalGaussian) -> Tensor:
        return posterior.kl_divergence()

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor:
        return posterior.kl_per_dimension()

    def rsample_rate(
        self,
        posterior: DiagonalGaussian,
        noise_key: Tensor,
        *,
        num_samples: int = 1,
        first_sample: int = 0,
        evaluation: bool = False,
        per_dimension: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        sample = 0 if num_samples > 1 else first_sample
        stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, sample, evaluation)
        if num_samples > 1:
            return *posterior.rsample_log_ratio(noise_key, num_samples, stream=stream, first_sample=first_sample), None
        if per_dimension:
            return posterior.rsample_kl_per_dimension(noise_key, stream=stream)
        return *posterior.rsample_kl(noise_key, stream=stream), None


class GaussianPrior(Prior):
    """A Gaussian with a learned mean and variance for each latent dimension; the KL is the fused operator's.

    Args:
        latent_shape: of one latent.
    """

    def __init__(self, latent_shape: int | tuple[int, ...]) -> None:
        super().__init__(latent_shape)
        assert self.latent_shape is not None
        self.mu = nn.Parameter(torch.zeros(self.latent_shape))
        self.logvar = nn.Parameter(torch.zeros(self.latent_shape))

    def log_prob(self, z: Tensor) -> Tensor:
        return DiagonalGaussian(self.mu.unsqueeze(0), self.logvar.unsqueeze(0)).log_prob(z)

    def rsample(self, num: int, noise_key: Tensor) -> Tensor:
        noise = prior_noise(num, tuple(self.mu.shape), noise_key)
        return self.mu + torch.exp(0.5 * self.logvar) * noise

    def kl(self, posterior: DiagonalGaussian) -> Tensor:
        return kl_divergence(posterior, self._expanded(posterior))

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor:
        return posterior.kl_per_dimension(self._expanded(posterior))

    def rsample_rate(
        self,
        posterior: DiagonalGaussian,
        noise_key: Tensor,
        *,
        num_samples: int = 1,
        first_sample: int = 0,
        evaluation: bool = False,
        per_dimension: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if num_samples > 1:
            return super().rsample_rate(
                posterior, noise_key, num_samples=num_samples, first_sample=first_sample, evaluation=evaluation
            )
        stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, first_sample, evaluation)
        arguments = (posterior.mu, posterior.logvar, noise_key, self.mu, self.logvar)
        if per_dimension:
            return ops.gaussian_rsample_kl(*arguments, stream=stream, reduction="both")
        return *ops.gaussian_rsample_kl(*arguments, stream=stream), None

    def _expanded(self, posterior: DiagonalGaussian) -> DiagonalGaussian:
        return DiagonalGaussian(self.mu.expand_as(posterior.mu), self.logvar.expand_as(posterior.logvar))


def prior_noise(num: int, latent_shape: tuple[int, ...], noise_key: Tensor) -> Tensor:
    """The standard normal noise that latents are generated from, [num, *latent_shape]; columns are flattened indices.

    Row i is the noise of row first_row + i of the key.
    """
    stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.PRIOR)
    return ops.philox_normal(noise_key, num, math.prod(latent_shape), stream=stream).view(num, *latent_shape)


def as_shape(latent_shape: int | tuple[int, ...] | None) -> tuple[int, ...] | None:
    """A number of dimensions, or a shape, as a shape."""
    return (latent_shape,) if isinstance(latent_shape, int) else latent_shape

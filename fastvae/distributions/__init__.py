"""Distributions over latents: the diagonal Gaussian that encoders give, and priors."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.distributions.gaussian import DiagonalGaussian, kl_divergence
    from fastvae.distributions.priors import GaussianPrior, Prior, StandardNormal

__all__ = ["DiagonalGaussian", "GaussianPrior", "Prior", "StandardNormal", "kl_divergence"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "gaussian": ("DiagonalGaussian", "kl_divergence"),
        "priors": ("GaussianPrior", "Prior", "StandardNormal"),
    },
)

"""Models from a config: what recipes and the command line build."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fastvae.likelihoods import Bernoulli, Gaussian
from fastvae.models.autoencoder import AutoEncoder
from fastvae.models.vae import VAE
from fastvae.nn import MLP, Activation, LinearEncoder, MLPDecoder, MLPEncoder


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and how large."""

    kind: Literal["vae", "autoencoder", "linear-vae"] = "vae"
    """"vae", "autoencoder" (deterministic, squared error), or "linear-vae" (no hidden layers; its optimum is PPCA)."""
    hidden_dim: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers; the decoder mirrors them. The linear VAE has none."""
    latent_dim: int = 20
    """Dimensions of the latent space."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """p(x|z): "bernoulli" for pixels in [0, 1], "gaussian" (learned variance) for real values. Autoencoders: none."""
    likelihood_logvar: Literal["scalar", "per-dimension"] = "scalar"
    """One learned variance for all values of the Gaussian likelihood, or one for each."""
    likelihood_logvar_start: float = -3.0
    """Log variance that the Gaussian likelihood starts from; about that of pixels in [0, 1]. Far above the data's
    variance z looks useless, and the posterior collapses before the learned variance has come down."""
    likelihood_logvar_floor: float = -10.0
    """The Gaussian likelihood's log variance stays above this."""

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden_dim):
            raise ValueError(
                "ModelConfig: latent_dim and every width of hidden_dim must be at least 1,"
                f" got {self.latent_dim} and {self.hidden_dim}"
            )
        if not self.likelihood_logvar_floor < self.likelihood_logvar_start:
            raise ValueError(
                "ModelConfig: likelihood_logvar_floor must be below likelihood_logvar_start,"
                f" got {self.likelihood_logvar_floor} and {self.likelihood_logvar_start}"
            )


def build_model(
    config: ModelConfig, event_shape: Sequence[int], *, seed: int = 0, mean: Tensor | None = None
) -> VAE | AutoEncoder:
    """The model that ``config`` describes, on the CPU, for examples of ``event_shape``.

    Args:
        config: which model.
        event_shape: the shape of one example, without the batch.
        seed: the weights are drawn from it alone; the global generator is left as it was.
        mean: the train set's mean example, where the decoder's output is to start; None starts it at 0.

    Returns:
        A module that honours ``forward(batch, noise_key) -> VAETerms``; its outputs have the event's shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, decoder = _build_networks(config, tuple(event_shape))
    likelihood = _build_likelihood(config, tuple(event_shape))
    if mean is not None:
        is_deterministic = config.kind == "autoencoder"
        decoder.set_output_bias(mean if is_deterministic else likelihood.output_for_mean(mean.float()))
    if config.kind == "autoencoder":
        return AutoEncoder(encoder, decoder)
    return VAE(encoder, decoder, likelihood, config.latent_dim)


def _build_networks(config: ModelConfig, event_shape: tuple[int, ...]) -> tuple[nn.Module, MLPDecoder]:
    input_dim, latent_dim = math.prod(event_shape), config.latent_dim
    if config.kind == "linear-vae":
        return LinearEncoder(input_dim, latent_dim), MLPDecoder(latent_dim, (), event_shape)
    widths = config.hidden_dim
    encoder: nn.Module
    if config.kind == "autoencoder":
        encoder = MLP(input_dim, widths, latent_dim, config.activation)
    else:
        encoder = MLPEncoder(input_dim, widths, latent_dim, config.activation)
    return encoder, MLPDecoder(latent_dim, widths[::-1], event_shape, config.activation)


def _build_likelihood(config: ModelConfig, event_shape: tuple[int, ...]) -> Bernoulli | Gaussian:
    if config.likelihood == "bernoulli":
        return Bernoulli()
    variances = event_shape if config.likelihood_logvar == "per-dimension" else None
    return Gaussian(variances, logvar=config.likelihood_logvar_start, logvar_floor=config.likelihood_logvar_floor)

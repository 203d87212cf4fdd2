"""Fully connected networks: the textbook's VAE, its deterministic twin, and the linear VAE."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.vae.vae import VAE
from fastvae.nn import MLP, LinearEncoder, MLPDecoder, MLPEncoder


def build_mlp(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Encoder and mirrored decoder of ``config.hidden_dim``; an autoencoder's encoder gives one code."""
    input_dim, latent_dim, widths = inputs.event_numel, config.latent_dim, config.hidden_dim
    condition_dim = inputs.condition_dim
    if config.kind == "linear-vae":
        linear = LinearEncoder(input_dim, latent_dim, condition_dim=condition_dim)
        return Networks(linear, MLPDecoder(latent_dim, (), inputs.output_shape, condition_dim=condition_dim))
    settings: dict[str, Any] = {"condition_dim": condition_dim, "told": config.told}
    encoder: nn.Module
    if config.kind == "autoencoder":
        encoder = MLP(input_dim, widths, latent_dim, config.activation, **settings)
    else:
        encoder = MLPEncoder(input_dim, widths, latent_dim, config.activation, **settings)
    decoder = MLPDecoder(latent_dim, widths[::-1], inputs.output_shape, config.activation, **settings)
    return Networks(encoder, decoder, plain_autoencoder if config.kind == "autoencoder" else VAE)


def plain_autoencoder(encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module, latent_dim: int) -> AutoEncoder:
    """The autoencoder of squared error, which has no likelihood."""
    return AutoEncoder(encoder, decoder)

"""Networks of the autoencoder family."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.nn import MLP, MLPDecoder


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """A fully connected encoder that gives one code, and the mirrored decoder."""
    widths, latent_dim = config.hidden_dim, config.latent_dim
    settings: dict[str, Any] = {"condition_dim": inputs.condition_dim, "conditioning": config.conditioning}
    encoder = MLP(inputs.event_numel, widths, latent_dim, config.activation, **settings)
    decoder = MLPDecoder(latent_dim, widths[::-1], inputs.output_shape, config.activation, **settings)
    return Networks(encoder, decoder, _join, set_output_bias=decoder.set_output_bias)


def _join(encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module | None, latent_dim: int) -> AutoEncoder:
    """The autoencoder of squared error, which has no likelihood."""
    return AutoEncoder(encoder, decoder)

"""Convolutional VAEs for images."""

from __future__ import annotations

from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.nn import ConvDecoder, ConvEncoder


def build_conv(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Residual encoder and decoder of ``config.conv``."""
    condition_dim = inputs.condition_dim
    return Networks(
        ConvEncoder(inputs.event_shape, config.latent_dim, config.conv, condition_dim=condition_dim),
        ConvDecoder(config.latent_dim, inputs.output_shape, config.conv, condition_dim=condition_dim),
    )

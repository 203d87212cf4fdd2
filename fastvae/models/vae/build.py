"""Networks of the vae family: fully connected, convolutional, linear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.nn import ConvDecoder, ConvEncoder, LinearEncoder, MLPDecoder, MLPEncoder


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """The networks that ``config.network`` names."""
    return _BUILDERS[config.network](config, inputs)


def _build_mlp(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Encoder and mirrored decoder of ``config.hidden_dim``."""
    widths, latent_dim = config.hidden_dim, config.latent_dim
    settings: dict[str, Any] = {"condition_dim": inputs.condition_dim, "conditioning": config.conditioning}
    encoder = MLPEncoder(inputs.event_numel, widths, latent_dim, config.activation, **settings)
    decoder = MLPDecoder(latent_dim, widths[::-1], inputs.output_shape, config.activation, **settings)
    return Networks(encoder, decoder, set_output_bias=decoder.set_output_bias)


def _build_conv(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Residual encoder and decoder of ``config.conv``."""
    condition_dim = inputs.condition_dim
    encoder = ConvEncoder(inputs.event_shape, config.latent_dim, config.conv, condition_dim=condition_dim)
    decoder = ConvDecoder(config.latent_dim, inputs.output_shape, config.conv, condition_dim=condition_dim)
    return Networks(encoder, decoder, set_output_bias=decoder.set_output_bias)


def _build_linear(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """One linear layer each way, whose optimum is probabilistic PCA (Lucas et al. 2019, arXiv 1911.02469)."""
    condition_dim = inputs.condition_dim
    encoder = LinearEncoder(inputs.event_numel, config.latent_dim, condition_dim=condition_dim)
    decoder = MLPDecoder(config.latent_dim, (), inputs.output_shape, condition_dim=condition_dim)
    return Networks(encoder, decoder, set_output_bias=decoder.set_output_bias)


_BUILDERS: dict[str, Callable[[ModelConfig, ModelInputs], Networks]] = {
    "mlp": _build_mlp,
    "conv": _build_conv,
    "linear": _build_linear,
}

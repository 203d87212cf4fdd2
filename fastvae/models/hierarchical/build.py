"""Networks of the hierarchical family."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastvae.models.config import ModelConfig
from fastvae.models.hierarchical.hierarchical import HierarchicalVAE
from fastvae.models.parts import ModelInputs, Networks
from fastvae.nn import MLPDecoder, MLPEncoder


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """The published network: 784-200-200-z100 and 100-100-100-z50 with ``config.hierarchy``'s defaults.

    A condition c enters the networks of x alone: q(z1|x, c) and p(x|z1, c).
    """
    top, widths, latent_dim = config.hierarchy, config.hidden_dim, config.latent_dim
    settings: dict[str, Any] = {"condition_dim": inputs.condition_dim, "conditioning": config.conditioning}
    encoder = MLPEncoder(inputs.event_numel, widths, latent_dim, config.activation, **settings)
    decoder = MLPDecoder(latent_dim, widths[::-1], inputs.output_shape, config.activation, **settings)
    top_encoder = MLPEncoder(latent_dim, top.hidden_dim, top.latent_dim, config.activation)
    top_decoder = MLPEncoder(top.latent_dim, top.hidden_dim[::-1], latent_dim, config.activation)
    model = partial(HierarchicalVAE, top_encoder=top_encoder, top_decoder=top_decoder)
    return Networks(encoder, decoder, model, set_output_bias=decoder.set_output_bias)

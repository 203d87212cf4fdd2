"""Networks of the recommender family: a bag of items in, logits of all items out."""

from __future__ import annotations

from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.recommender.recommender import MultDAE, MultVAE
from fastvae.nn import BagEncoder, MLPDecoder


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """``items - hidden_dim - latent_dim - mirrored hidden_dim - items`` of Mult-VAE or Mult-DAE."""
    is_deterministic = config.network == "mult-dae"
    encoder = BagEncoder(
        inputs.event_numel,
        config.hidden_dim,
        config.latent_dim,
        num_heads=1 if is_deterministic else 2,
        dropout=config.recommender.dropout,
        condition_dim=inputs.condition_dim,
    )
    decoder = MLPDecoder(
        config.latent_dim,
        config.hidden_dim[::-1],
        inputs.output_shape,
        config.activation,
        condition_dim=inputs.condition_dim,
    )
    model = MultDAE if is_deterministic else MultVAE
    return Networks(encoder, decoder, model, set_output_bias=decoder.set_output_bias)

"""Networks of recommenders: a bag of items in, logits of all items out."""

from __future__ import annotations

from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.recommender.recommender import MultDAE, MultVAE
from fastvae.nn import BagEncoder, MLPDecoder


def build_bag(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """``items - hidden_dim - latent_dim - mirrored hidden_dim - items``: Mult-VAE, or Mult-DAE for an autoencoder."""
    is_deterministic = config.kind == "autoencoder"
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
        inputs.event_shape,
        config.activation,
        condition_dim=inputs.condition_dim,
    )
    return Networks(encoder, decoder, MultDAE if is_deterministic else MultVAE)

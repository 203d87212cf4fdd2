"""The parts of a model: the networks that a builder returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from fastvae.model_inputs import ModelInputs
from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.vae.vae import VAE

__all__ = ["ModelInputs", "Networks"]


class JoinModel(Protocol):
    """Builds a model from its parts, by position, such as a class of models."""

    def __call__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: Any, latent_dim: int, /
    ) -> VAE | AutoEncoder: ...


@dataclass(frozen=True)
class Networks:
    """Result of a family's ``build`` for `build_model`."""

    encoder: nn.Module
    """Encoder: from (x, condition) to mu and logvar, each [B, D]."""
    decoder: nn.Module
    """Decoder: from (z, condition) to the likelihood's parameters."""
    model: JoinModel = VAE
    """Builds the model, called with (encoder, decoder, likelihood, latent_dim); the likelihood is None for a family
    without likelihoods."""
    set_output_bias: Callable[[Tensor], None] | None = None
    """Initialises the decoder's output to a tensor of its shape; None if not supported."""

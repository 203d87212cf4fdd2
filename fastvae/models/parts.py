"""What a model is made of: the networks that a builder gives."""

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
    """What makes a model of its parts; by position, so that a class of models serves."""

    def __call__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: Any, latent_dim: int, /
    ) -> VAE | AutoEncoder: ...


@dataclass(frozen=True)
class Networks:
    """What a family's ``build`` gives to `build_model`."""

    encoder: nn.Module
    """From (x, condition) to mu and logvar, each [B, D]."""
    decoder: nn.Module
    """From (z, condition) to the likelihood's parameters."""
    model: JoinModel = VAE
    """What joins them, called with (encoder, decoder, likelihood, latent_dim); a family without likelihoods gets None
    for the likelihood."""
    set_output_bias: Callable[[Tensor], None] | None = None
    """Starts the decoder's output at a tensor of its shape; None for a decoder that cannot."""

"""What a model is made of: the networks that a builder gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from fastvae.model_inputs import ModelInputs
from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.vae.vae import VAE

__all__ = ["ModelInputs", "Networks"]


@dataclass(frozen=True)
class Networks:
    """What a network's builder gives to `build_model`."""

    encoder: nn.Module
    """From (x, condition) to mu and logvar, each [B, D]."""
    decoder: nn.Module
    """From (z, condition) to the likelihood's parameters. ``set_output_bias(output)`` is called where it exists."""
    model: Callable[[nn.Module, nn.Module, nn.Module, int], VAE | AutoEncoder] = VAE
    """What joins them, called with (encoder, decoder, likelihood, latent_dim)."""

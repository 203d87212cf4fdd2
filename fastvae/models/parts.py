"""What a model is made of: facts about the data that shape it, and the networks that a builder gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from fastvae.models.vae import VAE


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """What a model must know of its data. A new kind of data adds the fact that its networks need, with a default."""

    event_shape: tuple[int, ...]
    """Shape of one example, without the batch."""
    condition_dim: int = 0
    """Numbers in an example's condition; 0 for none."""
    num_tokens: int | None = None
    """Size of the vocabulary, where examples are token ids."""

    @property
    def event_numel(self) -> int:
        """Numbers in one example."""
        return math.prod(self.event_shape)


@dataclass(frozen=True)
class Networks:
    """What a network's builder gives to `build_model`."""

    encoder: nn.Module
    """From (x, condition) to mu and logvar, each [B, D]."""
    decoder: nn.Module
    """From (z, condition) to the likelihood's parameters. ``set_output_bias(output)`` is called where it exists."""
    model: type[VAE] = VAE
    """The class that joins them, called with (encoder, decoder, likelihood, latent_dim)."""

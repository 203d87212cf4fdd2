"""What a model is made of: facts about the data that shape it, and the networks that a builder gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.vae.vae import VAE


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """What a model must know of its data. A new kind of data adds the fact that its networks need, with a default."""

    event_shape: tuple[int, ...]
    """Shape of one example, without the batch."""
    condition_dim: int = 0
    """Numbers in an example's condition; 0 for none."""
    num_levels: int | None = None
    """How many values a pixel can take, where the model reads pixels as they are; None for other numbers."""
    condition_columns: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """First and last column + 1 of each field of the condition, by name."""
    num_tokens: int | None = None
    """Size of the vocabulary, where examples are token ids."""
    column_widths: tuple[int, ...] | None = None
    """Of each column of a table: 1 for a number, otherwise how many categories it has; None for other data."""
    likelihood_shape: tuple[int, ...] | None = None
    """Shape of the decoder's output for one example, where the likelihood wants another than the event's."""

    @property
    def event_numel(self) -> int:
        """Numbers in one example."""
        return math.prod(self.event_shape)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape if self.likelihood_shape is None else self.likelihood_shape


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

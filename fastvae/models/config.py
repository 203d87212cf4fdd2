"""Which model, and how large: what recipes and the command line set. Nothing here imports PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fastvae.nn.config import Activation, ConvConfig, Told
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class HierarchyConfig(Settings):
    """The top layer of network "hierarchical"."""

    latent_dim: int = 50
    """Dimensions of z2."""
    hidden_dim: tuple[int, ...] = (100, 100)
    """Widths of the hidden layers from z1 to z2; the way back mirrors them."""

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden_dim):
            raise ValueError(
                "HierarchyConfig: latent_dim and every width of hidden_dim must be at least 1,"
                f" got {self.latent_dim} and {self.hidden_dim}"
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig(Settings):
    """The networks of sentences: gru, lstm and transformer, whose width is the model's ``hidden_dim``."""

    embedding_dim: int = 128
    """Width of a token's vector, for gru and lstm; a transformer has one width."""
    num_layers: int = 1
    """Layers of cells, or blocks, on either side."""
    num_heads: int = 4
    """Heads of a transformer's attention."""
    dropout: float = 0.0
    """Share of the decoder's units that training loses."""
    word_dropout: float = 0.0
    """Share of the words that the decoder does not see in training."""
    cutoffs: tuple[int, ...] = (1000, 4000)
    """Where the adaptive softmax cuts the vocabulary, frequent words first; () scores all words alike."""
    temperature: float = 1.0
    """Of sampled words: 1 draws from the model, less prefers the likely ones."""
    beam_width: int = 8
    """Beginnings that the search for the most probable sentence keeps; 1 takes the most probable word each time."""
    no_repeat: int = 3
    """Length of the runs of words that the search writes once at most; 0 allows every repetition."""

    def __post_init__(self) -> None:
        if min(self.embedding_dim, self.num_layers, self.num_heads) < 1:
            raise ValueError(
                "TextConfig: embedding_dim, num_layers and num_heads must be at least 1,"
                f" got {self.embedding_dim}, {self.num_layers} and {self.num_heads}"
            )
        if self.beam_width < 1 or self.no_repeat < 0:
            raise ValueError(
                "TextConfig: beam_width must be at least 1 and no_repeat at least 0,"
                f" got {self.beam_width} and {self.no_repeat}"
            )


@dataclass(frozen=True, kw_only=True)
class RecommenderConfig(Settings):
    """What network "bag" needs beside its widths."""

    dropout: float = 0.5
    """Probability that an item of a training example is not seen, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"RecommenderConfig: dropout must be in [0, 1), got {self.dropout}; use 0 for off")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Which model, and how large."""

    kind: Literal["vae", "autoencoder", "linear-vae"] = "vae"
    """"vae", "autoencoder" (deterministic, squared error), or "linear-vae" (no hidden layers; its optimum is PPCA)."""
    network: str = "mlp"
    """Encoder and decoder, a name of `fastvae.models.NETWORKS`: "mlp", "conv" for images, "hierarchical" (two
    stochastic layers), ..."""
    hidden_dim: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers; the decoder mirrors them. The linear VAE has none."""
    latent_dim: int = 20
    """Dimensions of the latent space."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    told: Told = "first"
    """How networks "mlp" and "hierarchical" are told a condition: added to the first hidden layer's units, or scaling
    and moving the units of every one."""
    conv: ConvConfig = field(default_factory=ConvConfig)
    """Settings of network "conv"."""
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    """Settings of network "hierarchical", whose lower layer hidden_dim and latent_dim describe."""
    likelihood: str = "bernoulli"
    """p(x|z), a name of `fastvae.models.LIKELIHOODS`: "bernoulli" for pixels in [0, 1], "gaussian" (learned variance)
    for real values, "discretized-logistic" for 8-bit pixels, ... Autoencoders: none."""
    likelihood_logvar: Literal["scalar", "per-dimension"] = "scalar"
    """One learned variance for all values of the Gaussian likelihood, or one for each."""
    likelihood_logvar_start: float = -3.0
    """Log variance that the Gaussian likelihood starts from; about that of pixels in [0, 1]. Far above the data's
    variance z looks useless, and the posterior collapses before the learned variance has come down."""
    likelihood_logvar_floor: float = -10.0
    """The Gaussian likelihood's log variance stays above this."""
    text: TextConfig = field(default_factory=TextConfig)
    """For sentences: their networks."""

    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    """Settings of network "bag"."""

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden_dim):
            raise ValueError(
                "ModelConfig: latent_dim and every width of hidden_dim must be at least 1,"
                f" got {self.latent_dim} and {self.hidden_dim}"
            )
        if not self.likelihood_logvar_floor < self.likelihood_logvar_start < math.inf:
            raise ValueError(
                "ModelConfig: likelihood_logvar_floor must be below likelihood_logvar_start, and that finite,"
                f" got {self.likelihood_logvar_floor} and {self.likelihood_logvar_start}"
            )

"""Settings of the model. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fastvae.models.hierarchical.config import HierarchyConfig
from fastvae.models.recommender.config import RecommenderConfig
from fastvae.models.text.config import TextConfig
from fastvae.nn.config import Activation, Conditioning, ConvConfig
from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """Which model to train, and its size."""

    family: str = "vae"
    """Family of models, a name of `fastvae.models.FAMILIES`: vae, autoencoder, hierarchical, text, recommender, or a
    family that a plugin registers. On the command line, another family sets its own defaults."""
    network: str = "mlp"
    """Architecture of encoder and decoder, one of the family's, such as mlp, conv or linear (its optimum is PPCA)."""
    hidden_dim: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers; the decoder has them in reverse order."""
    latent_dim: int = 20
    """Number of dimensions of the latent space."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    conditioning: Conditioning = "concat"
    """How a condition (--data.condition) enters the networks: concatenated to their input, or FiLM, which scales and
    shifts the units of every hidden layer."""
    conv: ConvConfig = field(default_factory=ConvConfig)
    """Settings of network conv."""
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    """The top layer of family hierarchical; hidden_dim and latent_dim describe the lower layer."""
    likelihood: str = "bernoulli"
    """Likelihood p(x|z), a name of `fastvae.likelihoods.LIKELIHOODS`: bernoulli for pixels in [0, 1], gaussian (with a
    learned variance) for real values, discretized-logistic, beta-binomial or local-autoregressive for 8-bit pixels, ...
    Family autoencoder has none."""
    likelihood_logvar: Literal["scalar", "per-dimension"] = "scalar"
    """Learned variance of the Gaussian likelihood: one for all dimensions, or one per dimension."""
    likelihood_logvar_start: float = -3.0
    """Initial log variance of the Gaussian likelihood; the default suits pixels in [0, 1]. If it is far above the
    variance of the data, the posterior collapses before the learned variance has decreased."""
    likelihood_logvar_floor: float = setting(-10.0, advanced=True)
    """Lower bound of the Gaussian likelihood's log variance."""
    text: TextConfig = field(default_factory=TextConfig)
    """Settings of family text."""
    recommender: RecommenderConfig = field(default_factory=RecommenderConfig)
    """Settings of family recommender."""

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

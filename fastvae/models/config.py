"""Which model, and how large: what recipes and the command line set. Nothing here imports PyTorch."""

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
    """Which model, and how large."""

    family: str = "vae"
    """What is trained, a name of `fastvae.models.FAMILIES`: vae, autoencoder, hierarchical, text, recommender, or one
    that a plugin registers. On the command line another family brings its own defaults."""
    network: str = "mlp"
    """Encoder and decoder, one of the family's networks, such as mlp, conv or linear (whose optimum is PPCA)."""
    hidden_dim: tuple[int, ...] = (400,)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    latent_dim: int = 20
    """Dimensions of the latent space."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers."""
    conditioning: Conditioning = "concat"
    """How a condition (--data.condition) enters the networks: concatenated to their input, or FiLM, which scales and
    shifts the units of every hidden layer."""
    conv: ConvConfig = field(default_factory=ConvConfig)
    """Settings of network conv."""
    hierarchy: HierarchyConfig = field(default_factory=HierarchyConfig)
    """The top layer of family hierarchical; hidden_dim and latent_dim describe the lower one."""
    likelihood: str = "bernoulli"
    """p(x|z), a name of `fastvae.likelihoods.LIKELIHOODS`: bernoulli for pixels in [0, 1], gaussian (learned variance)
    for real values, discretized-logistic for 8-bit pixels, ... Family autoencoder has none."""
    likelihood_logvar: Literal["scalar", "per-dimension"] = "scalar"
    """One learned variance for all values of the Gaussian likelihood, or one for each."""
    likelihood_logvar_start: float = -3.0
    """Initial log variance of the Gaussian likelihood; the default suits pixels in [0, 1]. A start far above the data's
    variance makes z look useless, and the posterior collapses before the learned variance has come down."""
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

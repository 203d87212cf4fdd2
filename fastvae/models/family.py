"""What a family of models declares: its networks, and the data, likelihoods and settings that suit it.

This module does not import PyTorch: the command line reads the declarations before a model is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks

ELEMENTWISE = ("bernoulli", "gaussian", "discretized-logistic", "beta-binomial", "multinomial", "table")
"""Likelihoods with a fixed number of parameters per value of an example."""


class BuildNetworks(Protocol):
    """Builds encoder and decoder and returns the class of the model; it imports PyTorch when called."""

    def __call__(self, config: ModelConfig, inputs: ModelInputs, /) -> Networks: ...


@dataclass(frozen=True, kw_only=True)
class Network:
    """One choice of ``--model.network``: which settings it reads, and its named sizes."""

    options: tuple[str, ...] = ()
    """Fields of `ModelConfig` that it reads besides family, network, latent_dim and the likelihood's."""
    film: bool = False
    """Whether ``conditioning`` may be film."""
    has_rate: bool = True
    """Whether its ELBO has a rate; if False (deterministic models), settings of the objective do not apply."""
    kinds: tuple[str, ...] | None = None
    """Kinds of data that it supports; None: all of the family's."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Named sizes (``--model.preset``): values of `ModelConfig`'s fields; those of a nested config as a mapping."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models, an entry of `fastvae.models.FAMILIES`."""

    name: str
    """The value of ``--model.family``."""
    description: str
    """One sentence for the help text."""
    build: BuildNetworks
    """Builds encoder and decoder and returns the class of the model."""
    networks: Mapping[str, Network]
    """The networks by name; the first one is the default."""
    likelihoods: tuple[str, ...]
    """Names of the supported likelihoods, the default first; () for a model without a likelihood."""
    kinds: tuple[str, ...]
    """Supported kinds of data: pixels, text, audio, table, interactions."""
    tasks: tuple[str, ...] = ("elbo",)
    """Tasks that can train it."""

"""Common parts of likelihoods: base class, protocol of a bound likelihood, shapes, noise of samples."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.likelihoods.support import Support
from fastvae.model_inputs import ModelInputs


class BoundLikelihood(Protocol):
    """p(x|z) for given z: what `VAE.decode` returns."""

    @property
    def mean(self) -> Tensor:
        """Expected x, [B, ...] or [K, B, ...]."""
        ...

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log p(target|z) in nats per example: [B], or [K, B] if the output has K samples."""
        ...

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample x once for each row of the output, with keyed noise."""
        ...


class LevelProbabilities(Protocol):
    """The distribution of discrete pixels that do not depend on each other, as required by an entropy coder."""

    def probability_below(self, level: Tensor, num_levels: int) -> Tensor:
        """P(pixel < level) of pixels 0 .. num_levels - 1, elementwise; exactly 0 at 0 and 1 at num_levels."""
        ...


@runtime_checkable
class PixelLikelihood(BoundLikelihood, LevelProbabilities, Protocol):
    """A bound likelihood of discrete pixels that do not depend on each other given z."""


@dataclass(frozen=True)
class PixelStep:
    """Pixels of B examples that are coded or drawn at the same time."""

    columns: Tensor  # int64 [P], their indices in the flattened example
    distribution: LevelProbabilities  # of the B * P pixels, those of one example after the other


@runtime_checkable
class PixelsInOrder(Protocol):
    """A bound likelihood of discrete pixels, each of which depends on pixels before it.

    It does not declare ``mean``: Python would evaluate it in ``isinstance``, and it takes a pass over the pixels.
    """

    def in_order(self, x: Tensor) -> Iterator[PixelStep]:
        """The distributions of the pixels of x [B, ...]; those of all previous steps are read, and no others."""
        ...

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample x once for each row of the output, with keyed noise."""
        ...


class TokenSettings(Protocol):
    """Settings that a likelihood of tokens reads from ``LikelihoodSettings.text``."""

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """First IDs of the adaptive softmax's clusters."""
        ...


class LikelihoodSettings(Protocol):
    """Settings that likelihoods read from a `fastvae.models.ModelConfig`."""

    @property
    def hidden_dim(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        ...

    @property
    def likelihood_logvar(self) -> str:
        """Scalar or per-dimension."""
        ...

    @property
    def likelihood_logvar_start(self) -> float:
        """Initial log variance."""
        ...

    @property
    def likelihood_logvar_floor(self) -> float:
        """Lower bound of the log variance."""
        ...

    @property
    def text(self) -> TokenSettings:
        """Settings of family text."""
        ...


class Likelihood(nn.Module):
    """p(x|z): a module that converts a decoder's output to a distribution. Subclasses override the defaults."""

    support: Support = Support()
    """Values with a probability; all numbers by default. Training checks the data against it."""
    is_discrete: bool = False
    """Whether it scores pixel levels directly, so that bits per dimension need no Jacobian."""

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> Likelihood:
        """Build the likelihood for a model's settings and data; by default it depends on neither.

        Raises:
            ValueError: the data do not suit it.
        """
        return cls()

    @abstractmethod
    def forward(self, output: Tensor) -> BoundLikelihood:
        """The distribution with these parameters, [B, ...] or [K, B, ...]."""

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the decoder's output for one example; by default the example's own."""
        return event_shape

    def output_for_mean(self, mean: Tensor) -> Tensor | None:
        """Return the decoder's output for which the expected x is ``mean``; None initialises the output bias to 0."""
        return None


def aligned(where: str, output: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Flatten events to P numbers: output [B, P] or [K, B, P], target and mask [B, P]."""
    batch, event = target.shape[0], math.prod(target.shape[1:])
    # Sizes of events are compared first: `torch.export` must not learn that a dynamic batch differs from one of them.
    is_targets = output.dim() == target.dim() and math.prod(output.shape[1:]) == event and output.shape[0] == batch
    has_events = not is_targets and output.dim() > 1 and math.prod(output.shape[2:]) == event
    # With one example and one sample both readings fit; the target's shape decides, then the one without K.
    both_fit = batch == 1 and output.shape[0] == 1 and output.shape[1:] != target.shape
    if has_events and output.shape[1] == batch and not both_fit:
        output = output.reshape(output.shape[0], batch, event)
    elif output.shape[:1] == (batch,) and math.prod(output.shape[1:]) == event:
        output = output.reshape(batch, event)
    else:
        raise ValueError(
            f"{where}: the decoder's output must have the target's {event} values for each of {batch} examples,"
            f" as [B, ...] or [K, B, ...], got {list(output.shape)} for a target of {list(target.shape)};"
            " set the decoder's output size"
        )
    mask = None if mask is None else mask.expand_as(target).reshape(batch, event)
    # Integers are 0 and 1 here; the operator itself would read uint8 as grey values.
    is_integer = not target.is_floating_point() and target.dtype != torch.bool
    return output, (target.float() if is_integer else target).reshape(batch, event), mask


def rows_columns(output: Tensor) -> tuple[int, int]:
    """Rows and numbers per row of an output, as the noise functions require."""
    return output.shape[0], math.prod(output.shape[1:])


def event_stream(stream: int | None) -> int:
    """The noise stream of samples from p(x|z), unless the caller gives another."""
    return ops.stream(ops.Use.GENERATION, ops.GenerationSite.EVENT) if stream is None else stream


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 or float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def with_ends(probability: Tensor, level: Tensor, num_levels: int) -> Tensor:
    """P(pixel < level) with exact boundaries: 0 at the first level, 1 above the last."""
    return torch.where(level <= 0, 0.0, torch.where(level >= num_levels, 1.0, probability))

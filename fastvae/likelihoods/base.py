"""What every likelihood shares: the protocol of a bound likelihood, shapes, and the noise of its draws."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fastvae import ops


class BoundLikelihood(Protocol):
    """p(x|z) for given z: what `VAE.decode` returns."""

    @property
    def mean(self) -> Tensor:
        """Expected x, [B, ...] or [K, B, ...]."""
        ...

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log p(target|z) in nats per example: [B], or [K, B] where the output holds K samples."""
        ...

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One draw of x for each row of the output, by keyed noise."""
        ...


@runtime_checkable
class PixelLikelihood(BoundLikelihood, Protocol):
    """A bound likelihood that gives discrete pixels probabilities: what an entropy coder needs."""

    def probability_below(self, level: Tensor, num_levels: int) -> Tensor:
        """P(pixel < level) of pixels 0 .. num_levels - 1, elementwise; exactly 0 at 0 and 1 at num_levels."""
        ...


def aligned(where: str, output: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Events flattened to P numbers: output [B, P] or [K, B, P], target and mask [B, P]."""
    batch, event = target.shape[0], math.prod(target.shape[1:])
    # Sizes of events are compared first: `torch.export` must not learn that a dynamic batch differs from one of them.
    is_targets = output.dim() == target.dim() and math.prod(output.shape[1:]) == event and output.shape[0] == batch
    has_events = not is_targets and output.dim() > 1 and math.prod(output.shape[2:]) == event
    # With one example and one sample both readings fit; the target's own shape decides, then the plain one.
    both_fit = batch == 1 and output.shape[0] == 1 and output.shape[1:] != target.shape
    if has_events and output.shape[1] == batch and not both_fit:
        output = output.reshape(output.shape[0], batch, event)
    elif output.shape[:1] == (batch,) and math.prod(output.shape[1:]) == event:
        output = output.reshape(batch, event)
    else:
        raise ValueError(
            f"{where}: the decoder's output must hold the target's {event} values for each of {batch} examples,"
            f" as [B, ...] or [K, B, ...], got {list(output.shape)} for a target of {list(target.shape)};"
            " set the decoder's output size"
        )
    mask = None if mask is None else mask.expand_as(target).reshape(batch, event)
    # Integers are 0 and 1 here; the operator itself would read uint8 as grey values.
    is_integer = not target.is_floating_point() and target.dtype != torch.bool
    return output, (target.float() if is_integer else target).reshape(batch, event), mask


def rows_columns(output: Tensor) -> tuple[int, int]:
    """Rows and numbers per row of an output, as the noise functions take them."""
    return output.shape[0], math.prod(output.shape[1:])


def event_stream(stream: int | None) -> int:
    """The noise that draws events from p(x|z), unless the caller names another."""
    return ops.stream(ops.Use.GENERATION, ops.GenerationSite.EVENT) if stream is None else stream


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 or float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def with_ends(probability: Tensor, level: Tensor, num_levels: int) -> Tensor:
    """P(pixel < level) with exact ends: 0 at the first level, 1 above the last."""
    return torch.where(level <= 0, 0.0, torch.where(level >= num_levels, 1.0, probability))

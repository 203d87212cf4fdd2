"""Interpolations, traversals and scores of a model in a notebook, without a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions import DiagonalGaussian
from fastvae.records import Batch, Draw, VAETerms

_ROWS = 256  # examples that are scored at a time
_MAX_ROWS = 10  # dimensions that a traversal shows by default


class Explored(Protocol):
    """The methods of `fastvae.VAE` that this file calls."""

    def encode(self, batch: Batch) -> DiagonalGaussian: ...

    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor: ...

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor | None: ...

    def __call__(self, batch: Batch, noise_key: Tensor, draw: Draw) -> VAETerms: ...


def points_between(first: Tensor, second: Tensor, steps: int) -> Tensor:
    """Evenly spaced points from ``first`` to ``second``, of one shape [...], both included: [steps, ...].

    Raises:
        ValueError: fewer than two steps.
    """
    if steps < 2:
        raise ValueError(f"interpolate: steps must be at least 2, both ends included, got {steps}")
    places = torch.linspace(0, 1, steps, device=first.device)
    return first + places.view(-1, *(1 for _ in first.shape)) * (second - first)


def points_along(start: Tensor, directions: Tensor, steps: int, span: float) -> Tensor:
    """From ``start - span * direction`` to ``start + span * direction`` for each direction [R, ...]: [R, steps, ...].

    Raises:
        ValueError: fewer than two steps, or the span is not a finite number.
    """
    if steps < 2:
        raise ValueError(f"traverse: steps must be at least 2, got {steps}")
    if not math.isfinite(span):
        raise ValueError(f"traverse: span must be a finite number, got {span}")
    offsets = torch.linspace(-span, span, steps, device=start.device)
    return start + offsets.view(-1, *(1 for _ in start.shape)) * directions.unsqueeze(1)


@torch.no_grad()
def interpolate(model: Explored, first: Batch, second: Batch, steps: int) -> Tensor:
    """Decoded points between the mean latents of two batches of one example, [steps, ...]; their conditions too."""
    ends = [model.encode(batch).mu[0] for batch in (first, second)]
    condition = None
    if first.condition is not None and second.condition is not None:
        condition = points_between(first.condition[0], second.condition[0], steps)
    return model.generate(points_between(ends[0], ends[1], steps), condition)


@torch.no_grad()
def traverse(model: Explored, batch: Batch, dims: Sequence[int] | None, steps: int, span: float) -> Tensor:
    """Decoded rows through the mean latent of a batch of one example, [R, steps, ...].

    Args:
        model: the model.
        batch: one example.
        dims: R dimensions of the latent, by their flattened index; None chooses those with the largest KL.
        steps: examples per row.
        span: distance to either side, in units of z.

    Raises:
        ValueError: a dimension does not exist.
    """
    posterior = model.encode(batch)
    mu = posterior.mu[0]
    if dims is None:
        kl = model.kl_per_dimension(posterior)
        order = mu.flatten().abs() if kl is None else kl
        dims = order.argsort(descending=True)[:_MAX_ROWS].tolist()
    wrong = [dim for dim in dims if not 0 <= dim < mu.numel()]
    if wrong or not dims:
        raise ValueError(f"traverse: dims must be in 0 .. {mu.numel() - 1}, at least one, got {wrong or list(dims)}")
    directions = torch.zeros(len(dims), mu.numel(), dtype=mu.dtype, device=mu.device)
    directions[torch.arange(len(dims)), torch.tensor(dims)] = 1
    z = points_along(mu, directions.view(-1, *mu.shape), steps, span)
    condition = None if batch.condition is None else batch.condition.expand(len(dims) * steps, -1)
    return model.generate(z.flatten(0, 1), condition).unflatten(0, (len(dims), steps))


@torch.no_grad()
def score(model: Explored, batch: Batch, num_samples: int, seed: int) -> Tensor:
    """Minus the ELBO of each example or, with several samples, minus the importance-weighted bound, [B] float64 nats.

    The noise is that of evaluation, key (seed, 0, row), so that the result does not depend on the number of rows that
    are scored at a time.

    Raises:
        ValueError: ``num_samples`` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"score: num_samples must be at least 1, got {num_samples}")
    found = []
    for first in range(0, len(batch), _ROWS):
        part = _rows(batch, first)
        key = ops.noise_key(seed, 0, first, device=batch.x.device)
        terms = model(part, key, Draw(num_samples=num_samples, evaluation=True))
        bound = -(terms.rate + terms.distortion).double()
        if num_samples > 1:
            bound = torch.logsumexp(bound, dim=0) - math.log(num_samples)
        found.append(-bound)
    return torch.cat(found)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for every module of the model; each returns to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _rows(batch: Batch, first: int) -> Batch:
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch) if field.name != "dropout_key"}
    return replace(batch, **{name: t[first : first + _ROWS] for name, t in tensors.items() if t is not None})

"""Contracts of the parts of a `VAE`: encoder, decoder, likelihood and prior, each called on two examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fastvae.distributions import DiagonalGaussian
from fastvae.likelihoods import Likelihood
from fastvae.models import VAE
from fastvae.records import Batch

NUM_EXAMPLES = 2
"""The number of examples that the contracts are checked on."""
_MAX_REASON = 300  # characters


@runtime_checkable
class _Bound(Protocol):
    """The part of `fastvae.likelihoods.BoundLikelihood` that every run uses."""

    mean: Tensor

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor: ...


class Broken(Exception):
    """A contract is broken, and the contracts after it cannot be checked."""


def prior_problems(model: VAE, key: Tensor) -> list[str]:
    """The broken contracts of `Prior.rsample`, which draws the latents of new examples."""
    if type(model).draw_prior is not VAE.draw_prior or model.latent_shape is None:
        return []
    name = type(model.prior).__name__
    z = call(f"rsample(num, noise_key) of the prior {name}", lambda: model.prior.rsample(NUM_EXAMPLES, key))
    shape = (NUM_EXAMPLES, *model.latent_shape)
    if isinstance(z, Tensor) and tuple(z.shape) == shape:
        return []
    return [
        f"rsample of the prior {name} must return latents {list(shape)} for num = {NUM_EXAMPLES}, got {words_of(z)}"
    ]


def check_parts(model: VAE, batch: Batch) -> None:
    """Check encoder, decoder and likelihood one after the other, where the class uses them as `VAE` does."""
    kind = type(model)
    if kind.encode is not VAE.encode:
        return
    posterior = posterior_of(model, batch)
    for name, tensor in (("mu", posterior.mu), ("logvar", posterior.logvar)):
        if not bool(tensor.isfinite().all()):
            raise Broken(
                f"the encoder's {name} must be finite, got NaN or infinity for the first examples; check its weights"
                " and the scale of the data"
            )
    if kind.decode is not VAE.decode or kind.forward is not VAE.forward:
        return
    condition = () if batch.condition is None else (batch.condition,)
    z = posterior.mu
    output = call(f"the decoder, which must read z {list(z.shape)},", lambda: model.decoder(z, *condition))
    if not isinstance(output, Tensor) or output.shape[:1] != (NUM_EXAMPLES,):
        raise Broken(f"the decoder must return a tensor [B, ...], got {words_of(output)} for B = {NUM_EXAMPLES}")
    if isinstance(model.likelihood, Likelihood):
        event = tuple(batch.target.shape[1:])
        wanted = model.likelihood.output_shape(event)
        if math.prod(output.shape[1:]) != math.prod(wanted):
            raise Broken(
                f"the decoder must return {math.prod(wanted)} numbers for each example, {list(wanted)}, which"
                f" {type(model.likelihood).__name__} needs for an example of shape {list(event)}, got"
                f" {list(output.shape[1:])}; set the decoder's output size"
            )
    _check_likelihood(model, output, batch)


def posterior_of(model: VAE, batch: Batch) -> DiagonalGaussian:
    """The posterior of the examples.

    Raises:
        Broken: the encoder does not return a mean and a log variance of one shape.
    """
    if type(model).encode is not VAE.encode:
        posterior: DiagonalGaussian = call("the model's encode", lambda: model.encode(batch))
        return posterior
    condition = () if batch.condition is None else (batch.condition,)
    reads = f"x {list(batch.x.shape)}" + (
        "" if batch.condition is None else f" and condition {list(batch.condition.shape)}"
    )
    output = call(f"the encoder, which must read {reads},", lambda: model.encoder(batch.x, *condition))
    is_pair = isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(t, Tensor) for t in output)
    if not is_pair:
        raise Broken(
            f"the encoder must return a pair of tensors (mu, logvar), each [B, D], got {words_of(output)}; end its"
            " forward with `return mu, logvar`"
        )
    mu, logvar = output
    if mu.shape != logvar.shape or mu.shape[:1] != (NUM_EXAMPLES,) or mu.dim() < 2 or not mu.is_floating_point():
        raise Broken(
            "the encoder must return mu and logvar of one shape [B, D] and a floating-point type, got"
            f" {words_of(mu)} and {words_of(logvar)} for B = {NUM_EXAMPLES}; give both D columns"
        )
    return DiagonalGaussian(mu, logvar)


def _check_likelihood(model: VAE, output: Tensor, batch: Batch) -> None:
    name = type(model.likelihood).__name__
    bound = call(f"the likelihood {name}, which must read {list(output.shape)},", lambda: model.likelihood(output))
    if not isinstance(bound, _Bound):
        raise Broken(
            f"the likelihood {name} must return an object with log_prob(target, mask=None) and mean, got"
            f" {words_of(bound)}; see fastvae.likelihoods.BoundLikelihood"
        )
    found = call(
        f"log_prob(target, mask=None) of the likelihood {name}, which must read {list(batch.target.shape)},",
        lambda: bound.log_prob(batch.target, mask=batch.mask),
    )
    if not isinstance(found, Tensor) or found.numel() != NUM_EXAMPLES:
        raise Broken(
            f"log_prob of the likelihood {name} must return one number for each example, [B], got {words_of(found)} for"
            f" B = {NUM_EXAMPLES}; sum over an example's values: `.flatten(1).sum(1)`"
        )


def call(what: str, function: Callable[[], Any]) -> Any:
    """The result of a user's code.

    Raises:
        Broken: it raised an exception, which is the cause.
    """
    try:
        return function()
    except (torch.OutOfMemoryError, Broken):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:_MAX_REASON]
        raise Broken(
            f"{what} raised {type(error).__name__} for {NUM_EXAMPLES} examples: {reason}; change it to fit the data"
        ) from error


def words_of(value: Any) -> str:
    """A value as an error message shows it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"

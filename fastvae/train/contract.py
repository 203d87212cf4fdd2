"""Contracts of a user's modules, checked by a forward pass on two examples before the first step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fastvae.data import Data, load_examples
from fastvae.distributions import DiagonalGaussian
from fastvae.generative import AnyModel
from fastvae.likelihoods import Likelihood
from fastvae.models import VAE
from fastvae.ops import noise_key
from fastvae.records import Batch, Draw, HasMean, KeyedBatch, VAETerms
from fastvae.train.config import TrainConfig
from fastvae.train.step import autocast, draw_of

_NUM = 2  # examples
_MAX_REASON = 300  # characters
_UNCHECKED = "the contracts of the model are not checked before the first step"


@runtime_checkable
class _Bound(Protocol):
    """The part of `fastvae.likelihoods.BoundLikelihood` that every run uses."""

    mean: Tensor

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class _Keyed:
    batch: Batch
    key: Tensor


class _Broken(Exception):
    """A contract is broken, and the contracts after it cannot be checked."""


def check_contract(
    model: nn.Module, data: Data, config: TrainConfig, *, seed: int, device: torch.device, is_bound: bool = True
) -> tuple[str, ...]:
    """Call a copy of the model on two examples as training and evaluation do, and check what it returns.

    The model itself is unchanged, with two exceptions: modules that are initialised lazily get their weights, from the
    seed and therefore equal on all ranks, and a `VAE` without ``latent_dim`` gets the shape of its encoder's latents.
    No state of a random generator changes.

    Args:
        model: the model, not wrapped.
        data: the data of the run.
        config: the settings of the run.
        seed: the seed of the run.
        device: where the model will be trained.
        is_bound: whether the run trains on the objective of ``config``; a task of the user's is checked by its
            evaluation only.

    Returns:
        Lines to print: why the contracts could not be checked.

    Raises:
        ValueError: contracts are broken. The message has a line for each, with the rule, the value and the remedy.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(device, config.precision):
        try:
            complete(model, data, seed=seed)
            copied = _copy(model)
            if copied is None:
                return (f"{_UNCHECKED}: it cannot be copied by copy.deepcopy",)
            problems = _problems(copied.to(device), _two_examples(data, seed, device), config, is_bound=is_bound)
        except torch.OutOfMemoryError:
            return (f"{_UNCHECKED}: the whole model does not fit on one device",)
        except _Broken as error:
            raise ValueError(f"train: {error}") from error.__cause__
    if problems:
        raise ValueError("\n".join(f"train: {problem}" for problem in problems))
    return ()


def complete(model: nn.Module, data: Data, *, seed: int) -> None:
    """Give lazily initialised modules their weights, and a `VAE` without ``latent_dim`` its latent shape.

    Args:
        model: the model, changed in place only where something is missing.
        data: the first two training examples are read.
        seed: seed of the weights.
    """
    lazy = any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))
    shapeless = isinstance(model, VAE) and model.latent_shape is None
    if not lazy and not shapeless:
        return
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(seed)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        keyed = _two_examples(data, seed, device)
        if lazy:
            _call("the model's forward", lambda: model(keyed.batch, keyed.key))
        if shapeless:
            assert isinstance(model, VAE)
            copied = _copy(model)
            if isinstance(copied, VAE):
                model.set_latent_shape(tuple(_posterior(copied, keyed.batch).mu.shape[1:]))


def _copy(model: nn.Module) -> nn.Module | None:
    """A copy, or None for a model that holds something that cannot be copied, such as a lock."""
    try:
        return copy.deepcopy(model)
    except (copy.Error, TypeError, RuntimeError):
        return None


def _two_examples(data: Data, seed: int, device: torch.device) -> KeyedBatch:
    indices = torch.arange(_NUM).clamp(max=len(data.train) - 1)
    batch = load_examples(data.train, data.preprocess, indices, seed=seed, device=device)
    return _Keyed(batch, noise_key(seed, device=device))


def _problems(model: nn.Module, keyed: KeyedBatch, config: TrainConfig, *, is_bound: bool) -> list[str]:
    """The broken contracts of a model, which may be changed."""
    if isinstance(model, VAE):
        _check_parts(model, keyed.batch)
    able = AnyModel(model)
    problems = []
    if is_bound:
        model.train()
        problems = _terms_problems(able, keyed, draw_of(config.objective), "training")
        problems += _free_bits_problems(able, keyed, config)
    model.eval()
    with torch.no_grad():
        draws = [Draw(evaluation=True)]
        if able.estimates_elbo and able.takes_draw and config.final_samples > 1:
            draws.append(Draw(num_samples=_NUM, evaluation=True))
        for draw in draws:
            problems += _terms_problems(able, keyed, draw, "evaluation")
        if able.estimates_elbo and able.can("encode"):
            problems += _encode_problems(able, keyed.batch)
        if isinstance(model, VAE):
            problems += _prior_problems(model, keyed.key)
    return list(dict.fromkeys(problems))


def _prior_problems(model: VAE, key: Tensor) -> list[str]:
    """The broken contracts of `Prior.rsample`, which draws the latents of new examples."""
    if type(model).draw_prior is not VAE.draw_prior or model.latent_shape is None:
        return []
    name = type(model.prior).__name__
    z = _call(f"rsample(num, noise_key) of the prior {name}", lambda: model.prior.rsample(_NUM, key))
    shape = (_NUM, *model.latent_shape)
    if isinstance(z, Tensor) and tuple(z.shape) == shape:
        return []
    return [f"rsample of the prior {name} must return latents {list(shape)} for num = {_NUM}, got {_words(z)}"]


def _check_parts(model: VAE, batch: Batch) -> None:
    """Check encoder, decoder and likelihood one after the other, where the class uses them as `VAE` does."""
    kind = type(model)
    if kind.encode is not VAE.encode:
        return
    posterior = _posterior(model, batch)
    for name, tensor in (("mu", posterior.mu), ("logvar", posterior.logvar)):
        if not bool(tensor.isfinite().all()):
            raise _Broken(
                f"the encoder's {name} must be finite, got NaN or infinity for the first examples; check its weights"
                " and the scale of the data"
            )
    if kind.decode is not VAE.decode or kind.forward is not VAE.forward:
        return
    condition = () if batch.condition is None else (batch.condition,)
    z = posterior.mu
    output = _call(f"the decoder, which must read z {list(z.shape)},", lambda: model.decoder(z, *condition))
    if not isinstance(output, Tensor) or output.shape[:1] != (_NUM,):
        raise _Broken(f"the decoder must return a tensor [B, ...], got {_words(output)} for B = {_NUM}")
    if isinstance(model.likelihood, Likelihood):
        event = tuple(batch.target.shape[1:])
        wanted = model.likelihood.output_shape(event)
        if math.prod(output.shape[1:]) != math.prod(wanted):
            raise _Broken(
                f"the decoder must return {math.prod(wanted)} numbers for each example, {list(wanted)}, which"
                f" {type(model.likelihood).__name__} needs for an example of shape {list(event)}, got"
                f" {list(output.shape[1:])}; set the decoder's output size"
            )
    _check_likelihood(model, output, batch)


def _posterior(model: VAE, batch: Batch) -> DiagonalGaussian:
    """The posterior of the examples.

    Raises:
        _Broken: the encoder does not return a mean and a log variance of one shape.
    """
    if type(model).encode is not VAE.encode:
        posterior: DiagonalGaussian = _call("the model's encode", lambda: model.encode(batch))
        return posterior
    condition = () if batch.condition is None else (batch.condition,)
    reads = f"x {list(batch.x.shape)}" + (
        "" if batch.condition is None else f" and condition {list(batch.condition.shape)}"
    )
    output = _call(f"the encoder, which must read {reads},", lambda: model.encoder(batch.x, *condition))
    is_pair = isinstance(output, tuple | list) and len(output) == 2 and all(isinstance(t, Tensor) for t in output)
    if not is_pair:
        raise _Broken(
            f"the encoder must return a pair of tensors (mu, logvar), each [B, D], got {_words(output)}; end its"
            " forward with `return mu, logvar`"
        )
    mu, logvar = output
    if mu.shape != logvar.shape or mu.shape[:1] != (_NUM,) or mu.dim() < 2 or not mu.is_floating_point():
        raise _Broken(
            "the encoder must return mu and logvar of one shape [B, D] and a floating-point type, got"
            f" {_words(mu)} and {_words(logvar)} for B = {_NUM}; give both D columns"
        )
    return DiagonalGaussian(mu, logvar)


def _check_likelihood(model: VAE, output: Tensor, batch: Batch) -> None:
    name = type(model.likelihood).__name__
    bound = _call(f"the likelihood {name}, which must read {list(output.shape)},", lambda: model.likelihood(output))
    if not isinstance(bound, _Bound):
        raise _Broken(
            f"the likelihood {name} must return an object with log_prob(target, mask=None) and mean, got"
            f" {_words(bound)}; see fastvae.likelihoods.BoundLikelihood"
        )
    found = _call(
        f"log_prob(target, mask=None) of the likelihood {name}, which must read {list(batch.target.shape)},",
        lambda: bound.log_prob(batch.target, mask=batch.mask),
    )
    if not isinstance(found, Tensor) or found.numel() != _NUM:
        raise _Broken(
            f"log_prob of the likelihood {name} must return one number for each example, [B], got {_words(found)} for"
            f" B = {_NUM}; sum over an example's values: `.flatten(1).sum(1)`"
        )


def _terms_problems(able: AnyModel, keyed: KeyedBatch, draw: Draw, purpose: str) -> list[str]:
    """The broken contracts of a forward pass."""
    where = f"the forward of {able.name} in {purpose}"
    shape: tuple[int, ...] = (_NUM,) if draw.num_samples == 1 else (draw.num_samples, _NUM)
    words = "[B]" if draw.num_samples == 1 else "[K, B]"
    if draw.num_samples > 1:
        where += f" with K = {draw.num_samples} samples"
    terms = _call(where, lambda: able.terms(keyed, draw))
    if not isinstance(terms, VAETerms):
        return [f"{where} must return fastvae.VAETerms, got {_words(terms)}; return VAETerms(z=, rate=, distortion=)"]
    problems = []
    if not isinstance(terms.z, Tensor) or tuple(terms.z.shape[: len(shape)]) != shape:
        problems.append(f"{where}: z must be {words[:-1]}, ...], got {_words(terms.z)} for B = {_NUM}")
    for name, value in (("rate", terms.rate), ("distortion", terms.distortion), ("penalty", terms.penalty)):
        if name == "penalty" and value is None:
            continue
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            problems.append(
                f"{where}: {name} must be {words}, one number for each example, got {_words(value)} for B = {_NUM};"
                " sum over an example's values and do not average over the batch"
            )
        elif value.dtype not in (torch.float32, torch.float64):
            problems.append(f"{where}: {name} must be float32, got {_words(value)}; call .float() on it")
    if draw.per_dimension:
        problems += _per_dimension_problems(where, terms.rate_per_dimension)
    return problems


def _per_dimension_problems(where: str, value: Tensor | None) -> list[str]:
    if isinstance(value, Tensor) and value.dim() == 1:
        return []
    return [
        f"{where}: rate_per_dimension must be the KL of each latent dimension summed over the examples, [D], because"
        f" train.objective.free_bits needs it, got {_words(value)}; return it, or set free_bits to None"
    ]


def _free_bits_problems(able: AnyModel, keyed: KeyedBatch, config: TrainConfig) -> list[str]:
    """Under accumulation free bits are computed by two methods before the first backward pass."""
    if config.objective.free_bits is None or config.accumulation == 1:
        return []
    missing = [name for name in ("encode", "kl_per_dimension") if not able.can(name)]
    if missing:
        return [
            f"{able.name} must have {' and '.join(missing)}, which train.objective.free_bits with accumulation"
            f" {config.accumulation} calls; set accumulation to 1, or free_bits to None"
        ]
    found = _call(f"kl_per_dimension of {able.name}", lambda: able.kl_per_dimension(able.encode(keyed.batch)))
    return _per_dimension_problems(f"kl_per_dimension of {able.name}", found)


def _encode_problems(able: AnyModel, batch: Batch) -> list[str]:
    """The broken contracts of `GenerativeModel.encode`, which every evaluation calls."""
    posterior = _call(f"encode of {able.name}", lambda: able.encode(batch))
    if isinstance(posterior, DiagonalGaussian):
        _call(f"kl_per_dimension of {able.name}", lambda: able.kl_per_dimension(posterior))
    mean = posterior.mu if isinstance(posterior, HasMean) else posterior
    if isinstance(mean, Tensor) and mean.shape[:1] == (_NUM,):
        return []
    return [
        f"encode of {able.name} must return a posterior with mu and logvar [B, ...], or a code [B, ...], got"
        f" {_words(posterior)} for B = {_NUM}"
    ]


def _call(what: str, function: Callable[[], Any]) -> Any:
    """The result of a user's code.

    Raises:
        _Broken: it raised an exception, which is the cause.
    """
    try:
        return function()
    except (torch.OutOfMemoryError, _Broken):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:_MAX_REASON]
        raise _Broken(
            f"{what} raised {type(error).__name__} for {_NUM} examples: {reason}; change it to fit the data"
        ) from error


def _words(value: Any) -> str:
    """A value as an error message shows it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
